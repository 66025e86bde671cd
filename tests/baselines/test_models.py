"""One conformance test over every model and text front-end; a new model in the registry is covered for free."""

import dataclasses

import numpy as np
import pytest
import torch
from model_checks import (
    BOTH_FORMS,
    EVERY,
    SENTIMENT,
    check_gpu,
    corpus_of,
    undropped,
)

from hycon.data.manifest import MODALITIES
from hycon.data.ragged import Ragged
from hycon.errors import UserError
from hycon.output import task_loss
from hycon.train import Training, evaluate, fit, predict, seed_everything
from studies.authors import contract
from studies.authors.check import OF_BATCH, OF_FILE
from studies.authors.conformance import (
    build,
    check_batch_of_one_of,
    check_gradients_of,
    loss_of,
    padded_further,
)
from studies.registry import MODELS, model_module

WITH_GLOVE = [m for m, t in EVERY if t == "glove"]
SMALLER = {  # enough for the made-up corpora; a model that is not named runs as it is
    "ef_lstm": {"hidden": 32},
    "lf_lstm": {"text_hidden": 32, "audio_hidden": 16, "vision_hidden": 16},
    "tfn": {"text_hidden": 32, "audio_hidden": 16, "text_out": 16, "fusion_hidden": 16},
    "lmf": {"text_hidden": 32},
    "mult": {
        "d": 40,
        "heads": 2,
        "layers": 1,
        **dict.fromkeys(("text_dropout", "attn_dropout", "attn_dropout_audio", "attn_dropout_vision"), 0.0),
        **dict.fromkeys(("relu_dropout", "res_dropout", "embed_dropout", "out_dropout"), 0.0),
    },
    "qmf": {
        "grams": "1,2",
        "measurements": 50,
        "hidden": 64,
        "projectors": "orthonormal",
        **dict.fromkeys(("subnet_dropout", "output_dropout"), 0.0),
    },
    "hffn": {
        "context": 64,
        "size": 5,
        "stride": 5,
        "units": 12,
        **dict.fromkeys(("context_dropout", "skip_dropout", "dropout"), 0.0),
    },
    "tcm_lstm": {"d": 20, "hidden": 32},
    "misa": {
        "d": 48,
        **dict.fromkeys(("dropout", "layer_dropout", "sim_weight", "diff_weight", "recon_weight"), 0.0),
    },
    "mag": {"dropout": 0.1},
    "hycon": {"d": 20, "layers": 1, "attn_dropout": 0.1, "relu_dropout": 0.1, "res_dropout": 0.1, "embed_dropout": 0.1},
}


@pytest.mark.parametrize("check", OF_FILE.values(), ids=OF_FILE)
@pytest.mark.parametrize("model", MODELS)
def test_the_file(model, check):
    check(model)


@pytest.mark.parametrize(("model", "text"), SENTIMENT)
def test_the_search_space(model, text):
    contract.check_search_space(model, text)


@pytest.mark.parametrize("check", OF_BATCH.values(), ids=OF_BATCH)
@pytest.mark.parametrize(("model", "text"), SENTIMENT)
def test_conformance(model, text, check, batches):
    check(model, text, batches(corpus_of(text), text)["train"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("model", "text"), SENTIMENT)
def test_a_gpu_gives_what_a_cpu_gives(model, text, batches):
    """Tried under a pretended GPU in test_pretended_gpu.py."""
    batch = batches(corpus_of(text), text)["train"].slice(0, 13)
    check_gpu(*(undropped(model, text, batch) for _ in range(2)), batch, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("model", "text"), [("hycon", "bert"), ("hycon", "xlnet"), ("gfn", "glove")])
def test_by_default_hycon_s_front_end_reads_the_padding(model, text, batches):
    split = batches(corpus_of(text), text)["train"].slice(0, 10)
    before, after = padded_further(build(model, text, split), split)
    assert (after - before).abs().max() > 0.1 * before.std()


@pytest.mark.parametrize(("model", "text"), [("hycon", "xlnet"), ("tfn", "xlnet")])
def test_on_the_left_positions_must_be_the_utterance_s_own(model, text, batches):
    split = batches("small", text)["train"].slice(0, 10)
    before, after = padded_further(build(model, text, split, readout="cls", mask_padding=True), split)
    assert (after - before).abs().max() > 1e-3 * before.std()


@pytest.mark.parametrize(("model", "text"), SENTIMENT)
def test_state_dict_round_trip(model, text, batches, tmp_path):
    split = batches(corpus_of(text), text)["train"]
    net, other = build(model, text, split), build(model, text, split)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    loss_of(net.train(), split.slice(0, 8))  # moves running statistics
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(predict(net, split), predict(other, split))


@pytest.mark.parametrize("text", ["glove", "bert"])
def test_the_multimodal_representation_is_what_the_prediction_is_read_off(text, batches):
    split = batches("small", text)["test"]
    net = build("hycon", text, split)
    prediction, multimodal = evaluate(net, split, widest=512)
    assert torch.equal(prediction, predict(net, split))
    assert len(prediction.unique()) > 1
    torch.testing.assert_close(net.predictor(multimodal.clone())[:, 0], prediction.clone())
    assert evaluate(net, split, widest=8)[1] is None


@pytest.mark.parametrize(("model", "text"), BOTH_FORMS)
def test_bfloat16_autocast_is_finite(model, text, batches):
    batch = batches("small", text)["train"].slice(0, 12)
    net = build(model, text, batch)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(net, batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    close = predict(net, batch, "bf16") - predict(net, batch, "fp32")
    assert close.abs().max() < 0.1


# Other networks than the same models' first forms. TFN's and LMF's text comes as HyCon's does; under a product of
# three a tiny random BERT does not learn words from 160 utterances.
OTHER_FORMS = {("hycon", "bert"): MODALITIES, ("mag", "xlnet"): MODALITIES}
OTHER_FORMS |= dict.fromkeys([("tfn", "bert"), ("lmf", "bert")], ("audio", "vision"))
# MISA needs a lower rate than the others to learn words: at 3e-3, seeds 0 to 4 had 0.64, 0.67, 0.49, 0.03 and 0.16; at
# 1e-3 they have 0.59, 0.66, 0.66, 0.68 and 0.68. Weak: that is with the task's loss alone, d = 48 and no dropout
# (SMALLER). As its source has it, at 1e-3, three seeds had 0.42, 0.12 and 0.04: nothing is shown of its other losses.
RATE = {("misa", "text"): 1e-3}
SEEDS = {("misa", "text"): (0, 1, 2)}  # each of them must pass
# Seeds differ: 0 to 3 had 0.69 to 0.84 for audio and vision (after 8 epochs 0.57 to 0.83). Their mean is asked.
SPREAD = {("hycon", "bert"), ("tfn", "bert")}
INFORMATIVE = {**{(model, entry.text[0]): MODALITIES for model, entry in MODELS.items()}, **OTHER_FORMS}


@pytest.mark.parametrize(("modality", "model", "text"), [(m, *form) for form, own in INFORMATIVE.items() for m in own])
def test_reads_every_modality(modality, model, text, batches):
    """The label shows in one modality only; chance would correlate below 0.25 (64 utterances, 95 %)."""
    split, spread = batches(modality, text), (model, text) in SPREAD
    training = Training(lr=RATE.get((model, modality), 3e-3), batch_size=16, epochs=12 if spread else 8)
    found = []
    for seed in range(4) if spread else SEEDS.get((model, modality), (0,)):
        seed_everything(seed)
        net = build(model, text, split["train"], seed=seed, **SMALLER.get(model, {}))
        fit(net, split["train"], split["valid"], training, seed=seed)
        found.append(np.corrcoef(predict(net, split["test"]), split["test"].label)[0, 1])
    assert (np.mean(found) if spread else min(found)) > (0.35 if modality == "text" else 0.7)


@pytest.mark.parametrize("model", WITH_GLOVE)
def test_emotions(model, batches):
    """The IEMOCAP form: two logits an emotion, and something is learned about them."""
    split = batches("emotional", "glove")
    seed_everything(0)
    net = build(model, "glove", split["train"], emotions=4, **SMALLER.get(model, {}))
    assert net(split["train"].slice(0, 5)).prediction.shape == (5, 4, 2)
    training = Training(lr=5e-3, batch_size=8, epochs=12, patience=12)
    fitted = fit(net, split["train"], split["valid"], training, seed=0)
    after = task_loss(predict(net, split["train"]), split["train"].label)
    assert np.isfinite(fitted.valid_loss)
    share = split["train"].label.float().mean(0)  # (4,): what a model that ignores its input can know
    prior = -(share * share.log() + (1 - share) * (1 - share).log()).mean()
    assert after < prior - 0.05


# ------------------------------------------------------------------------------------------------- one model's own


ABLATIONS = {k: v for k, v in model_module("hycon").ABLATIONS.items() if "modalities" not in v}


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_ablation_changes_the_loss(name, batches):
    """...and nothing else: the same weights predict the same."""
    batch = batches("small", "glove")["train"].slice(0, 16)
    change = ABLATIONS[name]
    intact = build("hycon", "glove", batch, **{k: v for k, v in change.items() if k == "beta"}).eval()
    ablated = build("hycon", "glove", batch, **change).eval()
    with torch.no_grad():
        one, other = intact(batch), ablated(batch)
        assert torch.equal(one.prediction, other.prediction)
        assert abs(intact.loss(one, batch) - ablated.loss(other, batch)) > 1e-5


def test_without_contrast_the_loss_is_the_task_s(batches):
    batch = batches("small", "glove")["train"].slice(0, 16)
    net = build("hycon", "glove", batch, **ABLATIONS["contrast"]).eval()
    output = net(batch)
    assert float(net.loss(output, batch).detach()) == float(task_loss(output.prediction, batch.label).detach())


@pytest.mark.parametrize("fusion", ["addition", "concatenation", "tensor", "low-rank"])
@pytest.mark.parametrize("readout", ["last", "last_real", "cls", "mean"])
def test_hycon_options(fusion, readout, batches):
    batch = batches("small", "bert")["train"].slice(0, 6)
    net = build("hycon", "bert", batch, d=10, heads=2, fusion=fusion, readout=readout, mask_padding=True)
    loss = loss_of(net, batch)
    loss.backward()
    assert torch.isfinite(loss)


SOME = ["text", "audio", "vision", "text,audio", "text,vision", "audio,vision"]


@pytest.mark.parametrize("fusion", ["addition", "concatenation"])
@pytest.mark.parametrize("kept", SOME)
def test_hycon_without_some_modalities(kept, fusion, batches):
    """Only what is named is built, read and contrasted; each parameter learns; alone, only IAMCL is left."""
    batch = batches("small", "bert")["train"].slice(0, 13)
    net = build("hycon", "bert", batch, modalities=kept, fusion=fusion)
    names = kept.split(",")
    assert [name for name, _ in net.front.named_children()] == names
    output = net(batch)
    assert list(output.representations) == names
    assert output.prediction.shape == (13,)
    check_gradients_of(net, batch, output)
    check_batch_of_one_of(net, batch)
    whole = build("hycon", "bert", batch, fusion=fusion)
    assert sum(p.numel() for p in net.parameters()) < sum(p.numel() for p in whole.parameters())
    net.eval()
    for absent in {"text", "audio", "vision"} - set(names):
        noise = dataclasses.replace(getattr(batch, absent), rows=torch.zeros_like(getattr(batch, absent).rows))
        other = dataclasses.replace(batch, **{absent: noise})
        assert torch.equal(predict(net, other), predict(net, batch))


def test_hycon_with_all_modalities_named_is_hycon(batches):
    batch = batches("small", "glove")["train"].slice(0, 6)
    named, plain = (build("hycon", "glove", batch, **x) for x in ({"modalities": "text,audio,vision"}, {}))
    assert all(torch.equal(a, b) for a, b in zip(named.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"modalities": ""}, "expected text,audio,vision"),
        ({"modalities": "video"}, "expected text,audio,vision"),
        ({"modalities": "audio,text"}, "in that order"),
        ({"modalities": "text,text"}, "in that order"),
        ({"modalities": "text,audio", "fusion": "tensor"}, "addition or concatenation"),
        ({"modalities": "text", "fusion": "graph"}, "addition or concatenation"),
    ],
)
def test_modalities_that_there_are_not(options, said):
    with pytest.raises(UserError, match=said):
        model_module("hycon").Config(**options)


@pytest.mark.parametrize(("model", "option"), [("lf_lstm", {"combine": "concat"}), ("ef_lstm", {"layers": 3})])
def test_recurrent_options(model, option, batches):
    batch = batches("small", "glove")["train"].slice(0, 6)
    net = build(model, "glove", batch, **option)
    loss_of(net, batch).backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    assert not torch.equal(predict(net, batch), predict(build(model, "glove", batch), batch))


def test_vote_is_the_mean_of_three_decisions(batches):
    batch = batches("small", "glove")["train"].slice(0, 6)
    net = build("lf_lstm", "glove", batch, combine="vote").eval()
    with torch.no_grad():
        whole = net(batch).prediction
        parts = []
        for modality in ("text", "audio", "vision"):
            silenced = build("lf_lstm", "glove", batch, combine="vote").eval()
            for other in {"text", "audio", "vision"} - {modality}:
                for parameter in silenced.heads[other].parameters():
                    parameter.zero_()
            parts.append(silenced(batch).prediction)
    torch.testing.assert_close(sum(parts), whole)


@pytest.mark.parametrize("model", [m for m in WITH_GLOVE if not getattr(model_module(m), "NEEDS_ALIGNED", False)])
def test_unaligned_sequences(model, batches):
    """Audio and vision of their own lengths, as in unaligned corpora."""
    batch = batches("small", "glove")["train"].slice(0, 6)
    lengths = torch.tensor([1, 9, 4, 17, 2, 6])
    audio = Ragged.from_list([torch.randn(n, 8) for n in lengths])
    unaligned = dataclasses.replace(batch, audio=audio, layout=dataclasses.replace(batch.layout, aligned=False))
    net = build(model, "glove", unaligned)
    loss_of(net, unaligned).backward()
    assert torch.isfinite(predict(net, unaligned)).all()


@pytest.mark.parametrize("model", ["tfn", "lmf"])
def test_mean_over_time_runs_over_real_steps(model, batches):
    """Repeating an utterance's audio rows changes no mean; averaging padding in would."""
    batch = batches("small", "glove")["train"].slice(0, 6)
    audio = batch.audio
    rows = [audio.rows[s : s + n] for s, n in zip(audio.starts.tolist(), audio.lengths.tolist(), strict=True)]
    twice = dataclasses.replace(
        batch, audio=Ragged.from_list([torch.cat([r, r]) if i % 2 else r for i, r in enumerate(rows)])
    )
    net = build(model, "glove", batch)
    torch.testing.assert_close(predict(net, twice), predict(net, batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bounded", [True, False])
def test_tfn_output_range(bounded, batches):
    batch = batches("small", "glove")["train"].slice(0, 6)
    net = build("tfn", "glove", batch, output_range=bounded)
    torch.nn.init.constant_(net.net.fc3.bias, 50.0)
    assert (predict(net, batch).max() <= 3.0) == bounded
