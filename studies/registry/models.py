"""The list of models, and the file of each. A new model is one file and one line here.

A model in a file outside the repository is added for the process by `register`, under the name of its file.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hycon.errors import UserError, check_known
from hycon.model_file import ModelFile, constant, front_ends, load


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


def model_module(name: str) -> ModuleType:
    """The module of a model. Raises UserError with the nearest names, and for a file that cannot be executed."""
    check_known("model", name, MODELS)
    entry = MODELS[name]
    return load(entry.file) if entry.file else importlib.import_module(entry.module)


def path_of(name: str) -> str:
    """The file of a model."""
    entry = MODELS[name]
    if entry.file:
        return entry.file.path
    spec = importlib.util.find_spec(entry.module)
    assert spec is not None and spec.origin is not None
    return spec.origin


def source_file(name: str) -> Path | ModelFile:
    """A model's file, without importing it."""
    return MODELS[name].file or Path(path_of(name))


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
