"""Our models give what their authors' own code gives with the same weights: outputs and gradients, in float64.

tests/golden/authors/*.safetensors was recorded once, by running the authors' model definitions in float64 and in
evaluation (batch norms and layer norms as after some training), changed where today's Python or torch refuses them and
where said here:

    tfn             Justin1904/TensorFusionNetworks, model.py: TFN, the version with relu and sigmoid after the fusion
    lmf             Justin1904/Low-rank-Multimodal-Fusion, model.py: LMF
    mfn             pliang279/MFN, test_mosi.py: MFN
    graph_mfn       A2Zadeh/CMU-MultimodalSDK, mmmodelsdk/fusion/dynamic_fusion_graph/model.py: DynamicFusionGraph.
                    The graph alone: what its authors built around it is not public
    mult            yaohungt/Multimodal-Transformer, src/models.py and modules/: MULTModel, its width of 30 made 4, its
                    softmax in float64 as all else
    gfn             TmacMai/ARGF_multimodal_fusion, ARGF/ARGF_context2/model.py: graph11_new, to its first hidden layer,
                    the tanh of linear_1: the form of HyCon's Table 8 has no other
    mag             WasifurRahman/BERT_multimodal_transformer, modeling.py: MAG, in bert.py's places around the layers
                    of transformers' BERT
    mag_xlnet       the same MAG in xlnet.py's place before the second layer of transformers' XLNet, which is padded in
                    front; its mask_emb serves XLNet's pretraining alone
    raven           victorywys/RAVEN, code/model.py: Net, without its batch norm of audio, with one frame a word,
                    the non-verbal LSTMs' second bias zero
    raven_attached  the same without its four `.data`, which cut the gradient

A file holds input.*, output, weight.*, and the gradients of the output's sum: gradient.input.*, gradient.weight.*.
Weights bear the authors' names: those of `state_dict`, and for what Graph-MFN keeps in a plain dict, networks.01 and so
on, by vertex. Where an authors' model gives a parameter no gradient, neither must ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from peer import test_against_mmsa_fusion, test_against_mmsa_mag, test_against_mmsa_mfn, test_against_mmsa_mult
from recorded import GOLDEN
from safetensors.torch import load_file
from torch import Tensor, nn

from hycon.data.batch import Batch, Layout
from hycon.data.manifest import MODALITIES
from hycon.data.ragged import Ragged
from hycon.fusion import GraphFusion
from studies.registry import build_model

Named = dict[str, Tensor]
WIDTHS = {"text": 6, "audio": 4, "vision": 3}
FUSION = {"text_hidden": 8, "audio_hidden": 3, "vision_hidden": 2}
VERTICES = {"01": "text_audio", "02": "text_vision", "12": "audio_vision", "012": "text_audio_vision"}


class Case(NamedTuple):
    """build: our module.  run: our output from what was recorded as input.* and lengths.  renamed: authors' names ->
    ours, of weights and of gradients.  own: what names of ours begin with that the authors' code has nothing for."""

    build: Callable[[], nn.Module]
    run: Callable[[nn.Module, Named], Tensor]
    renamed: Callable[[Named], Named]
    own: tuple[str, ...] = ()


def model(name: str, dims: dict[str, int] = WIDTHS, **options: Any) -> Callable[[], nn.Module]:
    return lambda: build_model(name, text="features", dims=dims, **options)


def predicted(net: nn.Module, x: Named) -> Tensor:
    """(B,) of utterances cut to `lengths`, where given: the authors pad, ours does not."""
    text = "ids" if "ids" in x else "text"
    count, length = x[text].shape[:2]
    ends = x["lengths"].tolist() if "lengths" in x else None
    rows = {}
    for m, padded in (("text", x[text]), ("audio", x["audio"]), ("vision", x["vision"])):
        rows[m] = Ragged.from_list([v[:n] for v, n in zip(padded, ends or [len(padded[0])] * count, strict=True)])
    layout = Layout(dict.fromkeys(MODALITIES, length), tokens=text == "ids")
    return net(Batch(**rows, label=torch.zeros(count, dtype=torch.float64), layout=layout)).prediction


def by_table(table: dict[str, str]) -> Callable[[Named], Named]:
    """Renames modules: their name -> ours, the kind of parameter stays."""

    def renamed(named: Named) -> Named:
        split = ((*name.rpartition("."), value) for name, value in named.items())
        return {f"{table[module]}.{kind}": value for module, _, kind, value in split if module in table}

    return renamed


def of_fusion(name: str) -> Callable[[Named], Named]:
    return lambda named: test_against_mmsa_fusion.mapped(name, named)


def of_mag(named: Named) -> Named:
    return {test_against_mmsa_mag.ours(name): value for name, value in named.items()}


def graph() -> nn.Module:
    from baselines.graph_mfn import DynamicFusionGraph

    return DynamicFusionGraph({"text": 4, "audio": 2, "vision": 3}, 3, train_nodes=True)


GRAPH = {
    f"networks.{theirs}.{a}": f"nodes.{ours}.{b}"
    for theirs, ours in VERTICES.items()
    for a, b in (("0", 0), ("1.0", 1))
}
GRAPH |= {"t_network.0": "top.0", "t_network.1.0": "top.1"}
GRAPH |= {"efficacy_model.0": "efficacy.0", "efficacy_model.1.0": "efficacy.1", "efficacy_model.2": "efficacy.2"}
GFN = {"attention": "attention", "norm2": "norm", "linear_1": "out"}
GFN |= {
    f"{theirs}.{i}": f"{ours}.{i}"
    for theirs, ours in (("graph_fusion", "pairs"), ("graph_fusion2", "triples"))
    for i in (0, 2)
}


def mag() -> nn.Module:
    from transformers import BertConfig, BertModel

    from baselines.mag import NEEDS_POOLER

    return mag_in(BertModel(BertConfig(**test_against_mmsa_mag.TINY), add_pooling_layer=NEEDS_POOLER), "bert")


def mag_xlnet() -> nn.Module:
    from transformers import XLNetConfig, XLNetModel

    return mag_in(XLNetModel(XLNetConfig(vocab_size=20, d_model=12, n_layer=3, n_head=3, d_inner=16)), "xlnet")


def mag_in(encoder: nn.Module, kind: str) -> nn.Module:
    from baselines.mag import Config, Model
    from hycon.text import PretrainedText

    dims = {"text": 12, "audio": 4, "vision": 3}
    return Model(Config(beta_shift=test_against_mmsa_mag.BETA), dims, PretrainedText(encoder, kind))


def of_mag_xlnet(named: Named) -> Named:
    """As MAG-BERT's, but for what surrounds the gate."""
    prefixes = {"sequence_summary.": "", "logits_proj.": "predictor.", "multimodal_transformer.MAG.": "bert.MAG."}
    prefixes["multimodal_transformer."] = "text.model."
    renamed = {}
    for name, value in named.items():
        theirs = next(prefix for prefix in prefixes if name.startswith(prefix))
        ours = prefixes[theirs] + name.removeprefix(theirs)
        renamed[test_against_mmsa_mag.ours(ours) if ours.startswith("bert.MAG.") else ours] = value
    return renamed


def raven(detach: bool) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        net = model("raven", norm=5, cell=4, hidden=7, rule="code", detach=detach)()
        net.norm.running_var.fill_(1 - net.norm.eps)  # changes nothing
        return net

    return build


RAVEN = {"fc_rszcovarep": "audio.resize", "covarepW": "audio.gate", "calcAddon": "mix", "fc_afterLSTM": "out"}
RAVEN |= {"fc_rszFacet": "vision.resize", "facetW": "vision.gate"}
STEPS = {"covarepLSTM": "audio.step", "facetLSTM": "vision.step"}


def of_raven(named: Named) -> Named:
    """Of the non-verbal LSTMs ours has the gates i, g and o and one bias, as their only step starts from zeros."""
    renamed = by_table(RAVEN)(named)
    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        renamed[f"lstm.{kind}_l0"] = named[f"lstm1.layer_1.lstm.{kind}"]
    for theirs, ours in STEPS.items():
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}_ih_l0" in named:
                i, _, g, o = named[f"{theirs}.{kind}_ih_l0"].chunk(4)
                renamed[f"{ours}.{kind}"] = torch.cat([i, g, o])
    return renamed


SIZES = test_against_mmsa_mfn.SIZES
CASES = {
    "tfn": Case(model("tfn", **FUSION, text_out=4, fusion_hidden=6), predicted, of_fusion("tfn")),
    "lmf": Case(model("lmf", **FUSION, rank=3), predicted, of_fusion("lmf")),
    "mfn": Case(model("mfn", **SIZES), predicted, test_against_mmsa_mfn.mapped),
    "graph_mfn": Case(graph, lambda net, x: net(x), by_table(GRAPH)),
    "mult": Case(
        model("mult", {"text": 6, "audio": 5, "vision": 3}, d=4, heads=2, layers=2),
        predicted,
        test_against_mmsa_mult.mapped,
    ),
    "gfn": Case(lambda: GraphFusion(5, middle=64, hidden=4), lambda net, x: net(x), by_table(GFN), ("vertex_norm.",)),
    "mag": Case(mag, predicted, of_mag),
    "mag_xlnet": Case(mag_xlnet, predicted, of_mag_xlnet),
    "raven": Case(raven(detach=True), predicted, of_raven, ("norm.",)),
    "raven_attached": Case(raven(detach=False), predicted, of_raven, ("norm.",)),
}


def prefixed(recorded: Named, prefix: str) -> Named:
    return {name.removeprefix(prefix): value for name, value in recorded.items() if name.startswith(prefix)}


def with_weights(case: Case, recorded: Named) -> nn.Module:
    """Ours in float64, with the authors' weights: each has its place, and none of ours is left but `own`."""
    net = case.build().double().eval()
    given = case.renamed(prefixed(recorded, "weight."))
    missing, unexpected = net.load_state_dict(given, strict=False)
    assert not unexpected
    left = [name for name in missing if not name.startswith(case.own) and not name.endswith("num_batches_tracked")]
    assert not left
    return net


@pytest.mark.parametrize("name", CASES)
def test_same_numbers(name: str) -> None:
    case, recorded = CASES[name], load_file(GOLDEN / "authors" / f"{name}.safetensors")
    net = with_weights(case, recorded)
    inputs = prefixed(recorded, "input.")
    for value in inputs.values():
        value.requires_grad_(value.is_floating_point())
    lengths = {"lengths": recorded["lengths"]} if "lengths" in recorded else {}
    output = case.run(net, inputs | lengths)
    close(output, recorded["output"], "output")
    ours = {k: p for k, p in net.named_parameters() if p.requires_grad and not k.startswith(case.own)}
    ours |= {f"input.{k}": x for k, x in inputs.items() if x.requires_grad}
    theirs = case.renamed(prefixed(recorded, "gradient.weight."))
    theirs |= {f"input.{k}": x for k, x in prefixed(recorded, "gradient.input.").items()}
    assert theirs.keys() <= ours.keys()
    found = torch.autograd.grad(output.sum(), list(ours.values()), allow_unused=True)
    for of, gradient in zip(ours, found, strict=True):
        if of in theirs:
            close(gradient, theirs[of], of)
        else:
            assert gradient is None, f"{of} has a gradient, which the authors' code does not give it"


def close(found: Tensor, expected: Tensor, what: str) -> None:
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10, msg=lambda text: f"{what}: {text}")
