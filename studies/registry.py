"""What can run: model name -> module. The single list; a new model is one file and one line here.

A model in a file outside the repository is added for the process by `register`, under the name of its file.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hycon.errors import UserError, check_known, nearest
from hycon.model_file import ModelFile, constant, front_ends, load
from hycon.source import changed, sources

if TYPE_CHECKING:
    from torch import nn

    from hycon.data.corpus import Corpus
    from hycon.pretrained import Shell
    from hycon.train import Training


WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


@dataclass(frozen=True)
class Entry:
    """module: where Config, SEARCH_SPACE and Model are.  text: the front-ends that the model takes.
    file: of a model outside the repository, in place of the module."""

    module: str
    title: str
    text: tuple[str, ...] = ("glove", "bert", "xlnet", "features")
    file: ModelFile | None = None


MODELS = {
    "ef_lstm": Entry("baselines.ef_lstm", "Early Fusion LSTM"),
    "lf_lstm": Entry("baselines.lf_lstm", "Late Fusion LSTM"),
    "tfn": Entry("baselines.tfn", "Tensor Fusion Network (Zadeh et al., EMNLP 2017)"),
    "lmf": Entry("baselines.lmf", "Low-rank Multimodal Fusion (Liu et al., ACL 2018)"),
    "mult": Entry("baselines.mult", "Multimodal Transformer (Tsai et al., ACL 2019)"),
    "gfn": Entry("baselines.gfn", "Graph Fusion Network (Mai et al., AAAI 2020)"),
    "mfn": Entry("baselines.mfn", "Memory Fusion Network (Zadeh et al., AAAI 2018)"),
    "graph_mfn": Entry("baselines.graph_mfn", "Graph Memory Fusion Network (Zadeh et al., ACL 2018)"),
    "raven": Entry("baselines.raven", "Recurrent Attended Variation Embedding Network (Wang et al., AAAI 2019)"),
    "qmf": Entry("baselines.qmf", "Quantum-inspired Multimodal Fusion (Li et al., Inf. Fusion 2021)"),
    "iccn": Entry("baselines.iccn", "Interaction Canonical Correlation Network, reconstructed (Sun et al., AAAI 2020)"),
    "hffn": Entry(
        "baselines.hffn",
        "Hierarchical Feature Fusion Network, reconstructed (Mai et al., ACL 2019)",
        ("glove", "features"),
    ),
    "tcm_lstm": Entry("baselines.tcm_lstm", "TCM-LSTM, reconstructed from its abstract (Mai et al., TASLP 2021)"),
    "mag": Entry("baselines.mag", "Multimodal Adaptation Gate (Rahman et al., ACL 2020)", ("bert", "xlnet")),
    "misa": Entry("baselines.misa", "MISA (Hazarika et al., ACM MM 2020)", ("bert",)),
    "self_mm": Entry("baselines.self_mm", "Self-MM (Yu et al., AAAI 2021)", ("bert",)),
    "mmim": Entry("baselines.mmim", "MultiModal InfoMax (Han et al., EMNLP 2021)", ("bert",)),
    "tetfn": Entry(
        "baselines.tetfn", "Text Enhanced Transformer Fusion Network (Wang et al., Inf. Fusion 2023)", ("bert",)
    ),
    "almt": Entry(
        "baselines.almt", "Adaptive Language-guided Multimodal Transformer (Zhang et al., EMNLP 2023)", ("bert",)
    ),
    "hycon": Entry("hycon.model", "HyCon; HyCon-v2 with beta=0.2 (Mai et al., TAFFC 2022)"),
}


def register(file: ModelFile) -> str:
    """Let this process know a model outside the repository, in place of an earlier one from a file of that name.

    Returns its name. Raises UserError for the name of one of the suite's own models. Executes nothing.
    """
    known = MODELS.get(file.name)
    if known is not None and known.file is None:
        raise UserError(f"{file.path} has the name of a model of this suite, {file.name}: give the file another name.")
    title = (ast.get_docstring(file.tree) or file.name).split("\n\n")[0].replace("\n", " ")
    MODELS[file.name] = Entry("", title.rstrip("."), front_ends(file), file)
    return file.name


def own_files() -> tuple[ModelFile, ...]:
    """Of the models outside the repository that this process knows."""
    return tuple(entry.file for entry in MODELS.values() if entry.file)


def source_of(name: str) -> str | None:
    """The sha256 of a model's file outside the repository; None for the suite's own, which VERSION identifies."""
    file = MODELS[name].file if name in MODELS else None
    return file.sha256 if file else None


def other_source(name: str, source: str | None) -> str | None:
    """Why this process's model of that name is not the one with that source, as part of a sentence; None: it is."""
    known = source_of(name)
    if known == source:
        return None
    if source is None:
        return f"it is of the suite's own model {name}, which is not {path_of(name)}"
    asked = f"model {name} comes from a file outside the repository (sha256 {source[:12]})"
    kept = f"a copy is in the results folder's models/{source[:16]}"
    if known is None:
        return f"{asked}: give it with --model FILE ({kept})"
    return f"{asked}, and {path_of(name)} holds other content now ({known[:12]}): give it as it was ({kept})"


def another_version(spec: Any) -> str | None:
    """ "version 1 of tfn; this code has 2": of its model or of the suite, where a run was made with another than this
    code's. spec: a RunSpec."""
    for of, made, here in (
        (spec.model, spec.version, literal(spec.model, "VERSION")),
        ("the suite", spec.suite, type(spec).suite),
    ):
        if made != here:
            return f"version {made} of {of}; this code has {here}"
    return None


def path_of(name: str) -> str:
    """The file of a model."""
    entry = MODELS[name]
    if entry.file:
        return entry.file.path
    spec = importlib.util.find_spec(entry.module)
    assert spec is not None and spec.origin is not None
    return spec.origin


def model_module(name: str) -> ModuleType:
    """The module of a model. Raises UserError with the nearest names, and for a file that cannot be executed."""
    check_known("model", name, MODELS)
    entry = MODELS[name]
    return load(entry.file) if entry.file else importlib.import_module(entry.module)


def source_tree(name: str) -> ast.Module:
    """The parsed file of a model, without importing it (and torch with it)."""
    file = MODELS[name].file
    return file.tree if file else ast.parse(Path(path_of(name)).read_text(encoding="utf-8"))


def literal(name: str, variable: str) -> Any:
    """A plain constant of a model's file, None where it has none, without importing the file.

    Raises UserError where its value is not written out.
    """
    try:
        return constant(source_tree(name), variable)
    except ValueError as error:
        raise UserError(
            f"{variable} in {path_of(name)} cannot be read without executing the file: write its value out, as plain "
            "numbers, texts and dicts."
        ) from error


def source_file(name: str) -> Path | ModelFile:
    """A model's file, without importing it."""
    return MODELS[name].file or Path(path_of(name))


def changed_code(records: Iterable[Any]) -> dict[str, list[str]]:
    """Run id -> the files of its code (hycon.source) that differ from today's although no version was raised.

    records: of studies.store.record. Left out are runs whose code is as it was, runs from before it was recorded, and
    those whose model or suite has another version today, which says by itself that their code is another.
    """
    now: dict[str, tuple[Any, dict[str, str]]] = {}
    found = {}
    for record in records:
        spec = record.spec
        if record.code is None or spec.model not in MODELS or spec.suite != type(spec).suite:
            continue
        if spec.model not in now:
            now[spec.model] = literal(spec.model, "VERSION"), sources(source_file(spec.model))
        version, code = now[spec.model]
        if version == spec.version and (names := changed(record.code, code)):
            found[record.id] = names
    return found


def option_names(name: str) -> list[str]:
    """The options of a model, and then those of its training."""
    from hycon.train import Training

    return [field.name for kind in (model_module(name).Config, Training) for field in dataclasses.fields(kind)]


def resolve(name: str, text: str, overrides: Mapping[str, Any]) -> tuple[Any, Training]:
    """(Config, Training) of a model with `overrides`, each of which must be a field of one of the two. Epochs are those
    of the form, hycon.train.EPOCHS.

    Raises UserError for an unknown option (nearest names listed), a front-end that the model does not have, or a value
    of the wrong type.
    """
    from hycon.data.batch import form_of
    from hycon.train import EPOCHS

    module = model_module(name)
    form = form_of(text)
    if text not in MODELS[name].text:
        raise UserError(f"Model {name} has no text front-end {text!r}; it has {', '.join(MODELS[name].text)}.")
    config, training = module.Config(), dataclasses.replace(module.TRAINING[form], epochs=EPOCHS[form])
    own, trained = ({f.name for f in dataclasses.fields(x)} for x in (config, training))
    for key in overrides:
        if key not in own | trained:
            raise UserError(f"Model {name} has no option {key!r}; nearest: {nearest(key, own | trained)}.")
    if overrides.get("head_lr") is not None and form == "vectors":
        raise UserError(f"head_lr is for layers beside a pretrained encoder; text={text} has none: use lr.")
    config = _replace(config, {k: v for k, v in overrides.items() if k in own})
    if overrides.get("head_lr") is not None and "head_lr" in _unread(module, config, form):
        raise UserError(f"head_lr is for layers beside a pretrained encoder; {name} so configured has none: use lr.")
    training = _replace(training, {k: v for k, v in overrides.items() if k in trained})
    if training.permuted and getattr(module, "NEEDS_ALIGNED", False):
        raise UserError(f"{name} reads audio and vision word by word, and permuted ones belong to other words.")
    return config, training


def unread(name: str, text: str, overrides: Mapping[str, Any]) -> set[str]:
    """The options that nothing reads under `overrides`, as far as the model's file says so: in a function
    `without_effect(config, form)`. Raises UserError as `resolve`."""
    from hycon.data.batch import form_of

    return _unread(model_module(name), resolve(name, text, overrides)[0], form_of(text))


def _unread(module: ModuleType, config: Any, form: str) -> set[str]:
    return module.without_effect(config, form) if hasattr(module, "without_effect") else set()


def _replace(config: Any, changes: Mapping[str, Any]) -> Any:
    kinds = typing.get_type_hints(type(config))
    for key, value in changes.items():
        _check_range(key, value, getattr(config, key))
        allowed = typing.get_args(kinds[key]) or (kinds[key],)  # `float | None` or `float`
        if type(value) not in allowed and not (type(value) is int and float in allowed):
            names = " or ".join("None" if kind is type(None) else WORDS[kind] for kind in allowed)
            raise UserError(f"Option {key} is {value!r}; expected {names}, such as {getattr(config, key)!r}.")
        if type(value) is int and int not in allowed:
            changes = {**changes, key: float(value)}  # 1 and 1.0 are one run, with one id
    return dataclasses.replace(config, **changes)


def _check_range(key: str, value: Any, default: Any) -> None:
    """What no model can mean: a size below 1, a dropout that is no probability."""
    if "dropout" in key and isinstance(value, float | int) and not 0 <= value <= 1:
        raise UserError(f"Option {key} is {value!r}; expected a probability, from 0 to 1.")
    if type(value) is int and type(default) is int and value < min(1, default):
        raise UserError(f"Option {key} is {value!r}; expected at least {min(1, default)}.")


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


def search_space(name: str, text: str, overrides: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The model's SEARCH_SPACE for the front-end, without what `overrides` fixes and without the options that nothing
    reads under `overrides` (`unread`)."""
    from hycon.data.batch import form_of

    module, form = model_module(name), form_of(text)
    dropped = set(overrides) | unread(name, text, overrides)
    return {k: tuple(v) for k, v in module.SEARCH_SPACE[form].items() if k not in dropped}


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
