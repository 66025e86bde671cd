"""MISA and Self-MM against MMSA 2.2.1: same weights and inputs in float64, same predictions, losses, gradients; and for
Self-MM the same unimodal labels after three epochs. `python tests/peer/test_against_mmsa_beyond.py` records
tests/golden/{misa,self_mm}.safetensors.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.peer
GOLDEN = Path(__file__).parents[1] / "golden"
WIDTH, AUDIO, VISION = 12, 4, 3
LENGTHS, NOMINAL = (5, 8, 3, 4), 8
COUNT = 12  # utterances of the train split, of three batches
TINY = {
    "vocab_size": 20,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 16,
    "max_position_embeddings": NOMINAL,
}
MISA = {"d": 6, "sim_weight": 0.7, "diff_weight": 0.4, "recon_weight": 0.9}
SELF_MM = {
    **{"audio_hidden": 5, "vision_hidden": 4, "audio_out": 5, "vision_out": 4},
    **{"fusion_d": 7, "text_d": 6, "audio_d": 5, "vision_d": 4},
}
# Of Self-MM: parity holds for every seed, but of such small networks about half have a unit that no utterance moves.
# This seed's has none, so that the recorded gradients tell something of every parameter.
RECORDED = 9
SEEDS = range(5)
GROWTH = 1.02  # between the epochs, so that they differ; MMSA's optimiser has no part


class TinyBert(torch.nn.Module):
    """In place of MMSA's encoder, which loads a pretrained one."""

    def __init__(self, **_):
        super().__init__()
        from transformers import BertConfig, BertModel

        self.model = BertModel(BertConfig(**TINY, attn_implementation="eager"), add_pooling_layer=False)

    def forward(self, text):
        ids, mask = text[:, 0].long(), text[:, 1].long()
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


def randomised(network):
    for p in network.parameters():  # as large as after training, so that nothing is lost in rounding
        torch.nn.init.normal_(p, std=0.4)
    return network.double().eval()


def inputs(count):
    """ids, audio, vision (B, T, ...), labels and lengths, and MMSA's text (B, 3, T)."""
    lengths = torch.tensor((LENGTHS * count)[:count])
    real = torch.arange(NOMINAL) < lengths[:, None]
    ids = torch.randint(1, TINY["vocab_size"], (count, NOMINAL)) * real
    audio, vision = (torch.randn(count, NOMINAL, d, dtype=torch.float64) * real[..., None] for d in (AUDIO, VISION))
    label = torch.linspace(-2, 2, count, dtype=torch.float64)[torch.randperm(count)]
    return {"ids": ids, "audio": audio, "vision": vision, "label": label, "lengths": lengths}, torch.stack(
        [ids, real.long(), torch.zeros_like(ids)], 1
    )


def misa_name(name):
    """MMSA's name of a parameter -> ours, and how the rows are found in it; None for what it never trains."""
    for theirs, ours in (
        ("bertmodel.model.", "text.model."),
        ("shared.shared_1.", "invariant."),
        ("fusion.fusion_layer_1.", "hidden."),
        ("fusion.fusion_layer_3.", "predictor."),
        ("transformer_encoder.layers.0.", "layer."),
    ):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    kind = name.rpartition(".")[2]
    for letter, m in (("t", "text"), ("v", "vision"), ("a", "audio")):
        if name.startswith(f"project_{letter}."):
            return f"project.{m}.{2 if 'norm' in name else 0}.{kind}"
        if name.startswith((f"private_{letter}.", f"recon_{letter}.")):
            return f"{'specific' if name.startswith('private') else 'decoder'}.{m}.{kind}"
        if name.startswith(f"{letter}layer_norm.") and letter != "t":
            return f"sequence.{m}.norm.{kind}"
        if name.startswith((f"{letter}rnn1.", f"{letter}rnn2.")):
            way = "back" if kind.endswith("_reverse") else "ahead"
            return f"sequence.{m}.{way}{name[4]}.{kind.removesuffix('_reverse')}"
    return None


def record_misa(seed=5):
    module = pytest.importorskip("MMSA.models.singleTask.MISA", reason="needs MMSA (extra 'peer')")
    trainer = pytest.importorskip("MMSA.trains.singleTask.MISA")
    module.BertTextEncoder = TinyBert
    torch.manual_seed(seed)
    options = {
        **{"use_bert": True, "feature_dims": (WIDTH, AUDIO, VISION), "train_mode": "regression", "dropout": 0.3},
        **{"rnncell": "lstm", "use_finetune": True, "transformers": "bert", "pretrained": "", "hidden_size": MISA["d"]},
        **{"use_cmd_sim": True, "dataset_name": "mosi"},
        **{name: value for name, value in MISA.items() if name.endswith("weight")},
    }
    args = SimpleNamespace(**options)
    network = module.MISA(args)
    network.project_t.project_t = torch.nn.Linear(WIDTH, MISA["d"])  # 768 wide there, whatever the encoder
    randomised(network)
    data, text = inputs(4)
    prediction = network(text, data["audio"], data["vision"])["M"][:, 0]
    task = trainer.MISA(args)
    task.model = SimpleNamespace(Model=network)
    loss = (
        (prediction - data["label"]).square().mean()
        + args.diff_weight * task.get_diff_loss()
        + args.sim_weight * task.get_cmd_loss()
        + args.recon_weight * task.get_recon_loss()
    )
    return tensors(network, loss, misa_name) | data | {"prediction": prediction.detach(), "loss": loss.detach()}


def tensors(network, loss, ours):
    """weight.* and gradient.* of what is trained, by our names."""
    named = {ours(name): p for name, p in network.named_parameters() if ours(name)}
    gradients = torch.autograd.grad(loss, list(named.values()))
    return {f"weight.{k}": p.detach().clone() for k, p in named.items()} | {
        f"gradient.{k}": g for k, g in zip(named, gradients, strict=True)
    }


def self_mm_name(name):
    for theirs, ours in (
        *(("text_model.model.", "text.model."),),
        *((f"{a}_model.rnn.", f"{b}.lstm.") for a, b in (("audio", "audio"), ("video", "vision"))),
        *((f"{a}_model.linear_1.", f"{b}.linear.") for a, b in (("audio", "audio"), ("video", "vision"))),
        *(
            (f"post_{a}_layer_{number}.", f"tasks.{b}.{part}.")
            for a, b in (("fusion", "fusion"), ("text", "text"), ("audio", "audio"), ("video", "vision"))
            for number, part in ((1, "feature"), (2, "hidden"), (3, "out"))
        ),
    ):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    raise KeyError(name)


def record_self_mm(seed=RECORDED):
    """Three epochs of its trainer's own label generation. The weights grow between them; the loss and the gradients
    are those of the last batch."""
    module = pytest.importorskip("MMSA.models.multiTask.SELF_MM", reason="needs MMSA (extra 'peer')")
    trainer = pytest.importorskip("MMSA.trains.multiTask.SELF_MM")
    module.BertTextEncoder = TinyBert
    torch.manual_seed(seed)
    theirs = {"fusion": "fusion", "text": "text", "audio": "audio", "vision": "video"}
    options = {
        **{"need_data_aligned": False, "feature_dims": (WIDTH, AUDIO, VISION), "train_mode": "regression"},
        **{"use_finetune": True, "transformers": "bert", "pretrained": "", "dataset_name": "mosi", "device": "cpu"},
        **{"a_lstm_hidden_size": 5, "v_lstm_hidden_size": 4, "audio_out": 5, "video_out": 4, "text_out": WIDTH},
        **dict.fromkeys(("a_lstm_layers", "v_lstm_layers"), 1),
        **dict.fromkeys(("a_lstm_dropout", "v_lstm_dropout"), 0.0),
        **{f"post_{b}_dim": SELF_MM[f"{a}_d"] for a, b in theirs.items()},
        **{f"post_{b}_dropout": 0.1 for b in theirs.values()},
        **{"train_samples": COUNT, "H": 3.0, "excludeZero": True},
    }
    args = SimpleNamespace(**options)
    network = randomised(module.SELF_MM(args))
    task = trainer.SELF_MM(args)
    for kept in (task.feature_map, task.label_map):
        kept.update({name: value.double() for name, value in kept.items()})
    data, text = inputs(COUNT)
    every = torch.arange(COUNT)
    task.init_labels(every, data["label"])
    recorded = {}
    for epoch in (1, 2, 3):
        for indexes in every.chunk(3):
            lengths = data["lengths"][indexes]
            x = text[indexes], (data["audio"][indexes], lengths), (data["vision"][indexes], lengths)
            outputs = network(*x)
            loss = sum(
                task.weighted_loss(outputs[m], task.label_map[s][indexes], indexes=indexes, mode=s)
                for m, s in task.name_map.items()
            )
            if epoch == 3 and indexes[-1] == COUNT - 1:
                recorded = tensors(network, loss, self_mm_name) | {"loss": loss.detach()}
                recorded["prediction"] = outputs["M"][:, 0].detach()
            features = [outputs[f"Feature_{s}"].detach() for s in "ftav"]
            if epoch > 1:
                task.update_labels(*features, epoch, indexes, outputs)
            task.update_features(*features, indexes)
            task.update_centers()
        if epoch < 3:
            with torch.no_grad():
                for p in network.parameters():
                    p.mul_(GROWTH)
    return recorded | data | {f"label_{s}": task.label_map[s] for s in ("text", "audio", "vision")}


def test_misa():
    from recorded import compare_misa

    compare_misa(record_misa())


@pytest.mark.parametrize("seed", SEEDS)
def test_misa_of_other_weights_and_utterances(seed):
    from recorded import compare_misa

    compare_misa(record_misa(seed))


def test_self_mm():
    from recorded import compare_self_mm

    compare_self_mm(record_self_mm())


@pytest.mark.parametrize("seed", SEEDS)
def test_self_mm_of_other_weights_and_utterances(seed):
    from recorded import compare_self_mm

    compare_self_mm(record_self_mm(seed), dead=True)


if __name__ == "__main__":
    from safetensors.torch import save_file

    for name, record in (("misa", record_misa), ("self_mm", record_self_mm)):
        save_file({k: v.contiguous() for k, v in record().items()}, GOLDEN / f"{name}.safetensors")
