"""Models are built, and what rules that out is found before anything runs: a corpus that does not serve, sizes that
do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hycon.errors import UserError
from studies.registry.models import MODELS, model_module, path_of
from studies.registry.options import resolve

if TYPE_CHECKING:
    from torch import nn

    from hycon.data.corpus import Corpus
    from hycon.pretrained import Shell


def build_model(
    name: str,
    *,
    text: str,
    dims: Mapping[str, int],
    encoder: dict[str, str] | Shell | None = None,
    emotions: int = 0,
    **overrides: Any,
) -> nn.Module:
    """Build a model: `build_model("tfn", text="bert", dims={"text": 768, "audio": 74, "vision": 47})`.

    dims: modality -> feature size.  encoder: {"name", "sha256"} of a pretrained text model for bert/xlnet; None gives
    the architecture of the paper's encoder with random weights, a Shell that of its configuration.  emotions: 0 for
    sentiment, else how many.
    """
    from hycon.data.batch import form_of
    from hycon.held import hold
    from hycon.pretrained import load_model
    from hycon.text import PretrainedText

    config, _ = resolve(name, text, overrides)
    pretrained = None
    if form_of(text) == "tokens":
        pooler = getattr(model_module(name), "NEEDS_POOLER", False)
        pretrained = PretrainedText(load_model(text, encoder, pooler), text)
        if dims["text"] != pretrained.width:
            raise UserError(f"dims['text'] is {dims['text']}, but the {text} encoder is {pretrained.width} wide.")
    net = model_module(name).Model(config, dims, pretrained, emotions)
    return hold(net, path_of(name), emotions) if MODELS[name].file else net


def check_buildable(name: str, text: str, dims: Mapping[str, int], emotions: int, configs: Iterable[Any]) -> None:
    """Build each configuration without memory for its weights, those that differ in a dropout only once.

    Raises UserError for what no run could build.
    """
    import torch

    from hycon.data.batch import form_of
    from hycon.pretrained import DEMO, load_model
    from hycon.text import PretrainedText

    module = model_module(name)
    pooler = getattr(module, "NEEDS_POOLER", False)
    shapes = {
        repr([(key, value) for key, value in vars(config).items() if "dropout" not in key]): config
        for config in configs
    }
    with torch.device("meta"):
        for config in shapes.values():
            pretrained = None
            if form_of(text) == "tokens":
                pretrained = PretrainedText(load_model(text, {"name": DEMO, "sha256": ""}, pooler), text)
            try:
                module.Model(config, {"text": 300, **dims}, pretrained, emotions)
            except (ValueError, TypeError, RuntimeError, AssertionError, ZeroDivisionError) as error:
                raise UserError(f"Model {name} cannot be built as configured: {error}.") from error


def unserved_because(name: str, text: str, corpus: Corpus, encoder: dict[str, str] | None = None) -> str | None:
    """Why the corpus cannot serve the front-end or the metrics, or not word by word as the model needs it: "has no
    words, ..."."""
    from hycon.data.prepare import serves
    from hycon.pretrained import lacks_pooler, positions

    try:
        aligned = serves(corpus, text)
    except UserError as error:
        return str(error).removeprefix(f"Corpus {corpus.name!r} ").rstrip(".")
    if not aligned and getattr(model_module(name), "NEEDS_ALIGNED", False):
        return f"is not word-aligned with text={text}, as some models need it"
    if corpus.manifest.task == "emotion" and not getattr(model_module(name), "EMOTIONS", True):
        return f"has emotions, and {name} is for sentiment only"
    steps, most = corpus.manifest.lengths["text"], positions(text, encoder) if encoder else None
    if most is not None and steps > most:
        return f"pads sentences to {steps} steps, and the text encoder has positions for {most}"
    if encoder and getattr(model_module(name), "NEEDS_POOLER", False) and (found := lacks_pooler(text, encoder)):
        return f"is read by an encoder of type {found}, and {name} needs one with the layers and the pooler of BERT"
    for split in ("valid", "test"):
        if corpus.manifest.task == "sentiment" and not corpus.splits[split].label.any():
            return f"has no label other than 0 in its {split} split, and most metrics leave those out"
    return None
