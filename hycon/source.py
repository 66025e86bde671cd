"""The code that made a run: a hash for each file that its numbers can depend on, so that a change without a new VERSION
is seen.

    sources("hycon.model")   {"hycon/data/batch.py": "0f6c...", ..., "hycon/model.py": "93aa..."}
    sources(ModelFile(...))  a model of one's own: "my.py" as it was read, and what it imports from beside it

Which files: the model's, SHARED, and all that these import of hycon and baselines, at any depth. Not among them are
  - NEUTRAL, which move no number: messages, paths, locks, and identities that are in a run's specification already;
  - hycon/data/importers: what they write is in the corpus's checksum;
  - studies: what it decides for a run is in the specification (options, seed, data, `suite`).

What is hashed is the meaning, not the text: the syntax tree without comments, docstrings, formatting, annotations of
functions, imports for type checkers, the words of raised errors, and the constants IN_SPEC. The same file has the same
hash in every version of Python. Nothing is imported, PyTorch neither.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hycon.host import source_root
from hycon.model_file import ModelFile

PACKAGES = ("hycon", "baselines")
SHARED = ("hycon.train", "hycon.metrics", "hycon.pretrained", "hycon.data.corpus", "hycon.data.prepare")  # every run's
NEUTRAL = ("hycon.errors", "hycon.files", "hycon.host", "hycon.offline", "hycon.source", "hycon.data.manifest")
IN_SPEC = {"VERSION", "TRAINING", "SEARCH_SPACE", "ABLATIONS", "REMOVED", "INTACT", "DEMO"}  # of a model's file
DIGITS = 16  # hex, as of a run's id
NO_PYTHON = "no Python"  # in place of the hash of a file that cannot be parsed
# Fields of syntax trees that say nothing, or that only some versions of Python have.
SILENT = {"ctx", "kind", "type_comment", "type_ignores", "annotation", "returns"}
MOST_FILES, MOST_LABELS = 4, 6  # that a sentence names; chosen here
Model = str | os.PathLike | ModelFile  # a module of hycon or baselines by its dotted name, a file, one that was read
Code = Path | bytes  # a file; the content of a ModelFile, which is what runs, whatever stands in the file by now


def sources(model: Model) -> dict[str, str]:
    """File -> hash, of a model's code. Raises OSError where a file cannot be read."""
    return {name: digest(code) for name, code in files(model).items()}


def files(model: Model) -> dict[str, Code]:
    """Name -> what is hashed, in order of the names."""
    root = source_root()
    first = _find(model, root) if isinstance(model, str) else None
    first = first or Path(model.path if isinstance(model, ModelFile) else model).absolute()
    beside = None if first.is_relative_to(root) and first.relative_to(root).parts[0] in PACKAGES else first.parent
    read = {first: model.content} if isinstance(model, ModelFile) else {}
    found: dict[str, Code] = {}
    waiting = [first, *(path for name in SHARED if (path := _find(name, root)))]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(beside if beside and path.is_relative_to(beside) else root).as_posix()
        if name not in found:
            found[name] = read.get(path, path)
            waiting += _imported(path, found[name], root, beside)
    return dict(sorted(found.items()))


def digest(code: Code) -> str:
    """The hash of its meaning, or NO_PYTHON. Raises OSError."""
    return _read(code)[0]


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The files that differ, or that are in one only."""
    return sorted(name for name in {*then, *now} if then.get(name) != now.get(name))


def said(by_label: Mapping[str, Sequence[str]], everyone: str = "") -> str:
    """ "baselines/tfn.py (TFN-GloVe, TFN-BERT), hycon/train.py (all rows)".

    by_label: row or model -> the files that have changed, empty where none has.  everyone: the words for all of them.
    """
    labels: dict[str, list[str]] = {}
    for label, names in by_label.items():
        for name in names:
            labels.setdefault(name, []).append(label)
    order = sorted(labels, key=lambda name: (len(labels[name]), name))  # a model's own file first
    shown = [f"{name} ({_few(labels[name], len(by_label), everyone)})" for name in order[:MOST_FILES]]
    more = len(order) - MOST_FILES
    return ", ".join(shown) + (f" and {more} more file{'s' if more > 1 else ''}" if more > 0 else "")


def _few(labels: Sequence[str], of: int, everyone: str) -> str:
    if everyone and len(labels) == of > 1:
        return everyone
    more = len(labels) - MOST_LABELS
    return ", ".join(labels[:MOST_LABELS]) + (f" and {more} more" if more > 0 else "")


# ------------------------------------------------------------------------------------------------- imports


def _find(module: str, folder: Path) -> Path | None:
    """The file of a module below `folder`; None for what is not there, or moves no number."""
    if module in NEUTRAL or not all(part.isidentifier() for part in module.split(".")):
        return None
    path = folder.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def _imported(path: Path, code: Code, root: Path, beside: Path | None) -> Iterator[Path]:
    """What a file imports from the packages, and from the folder of a model of one's own."""
    for level, module in _read(code)[1]:
        if level:
            folder: Path | None = path.parents[level - 1]
        else:
            folder = root if module.partition(".")[0] in PACKAGES else beside
        if folder and (found := _find(module, folder)):
            yield found


def _names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(level, dotted name) of what is imported, also of names that may be modules themselves."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = f"{node.module}." if node.module else ""
            yield from ((node.level, f"{prefix}{alias.name}") for alias in node.names)
            if node.module:
                yield node.level, node.module


# ------------------------------------------------------------------------------------------------- meaning


def _read(code: Code) -> tuple[str, tuple[tuple[int, str], ...]]:
    """(hash, imports) of a file, read again only where it has changed."""
    if isinstance(code, bytes):
        return _parsed(code)
    found = code.stat()
    return _parsed(code, found.st_mtime_ns, found.st_size)


@cache
def _parsed(code: Code, _changed: int = 0, _size: int = 0) -> tuple[str, tuple[tuple[int, str], ...]]:
    try:
        tree = _Meaning().visit(ast.parse(code if isinstance(code, bytes) else code.read_bytes()))
    except (SyntaxError, ValueError):
        return NO_PYTHON, ()
    return hashlib.sha256("".join(_spelled(tree)).encode()).hexdigest()[:DIGITS], tuple(dict.fromkeys(_names(tree)))


class _Meaning(ast.NodeTransformer):
    """Takes out of a tree what moves no number of a run."""

    def visit_Module(self, node: ast.Module) -> Any:
        node.body = [each for each in node.body if not _assigns(each) & IN_SPEC]
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> Any:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return self.generic_visit(node).orelse  # type: ignore[attr-defined]
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> Any:
        if isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        return node


def _assigns(node: ast.stmt) -> set[str]:
    """The names that a statement gives a value."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _spelled(value: Any) -> Iterator[str]:
    """A tree in one spelling. `ast.dump` prints empty fields in some versions of Python and not in others."""
    if isinstance(value, ast.AST):
        yield f"{type(value).__name__}("
        for name, inside in ast.iter_fields(value):
            named = not isinstance(value, ast.AnnAssign) and name in SILENT
            if inside is not None and inside != [] and not named:
                yield f"{name}="
                yield from _spelled(inside)
        yield ")"
    elif isinstance(value, list):
        yield "["
        for inside in value:
            yield from _spelled(inside)
            yield ","
        yield "]"
    else:
        yield ascii(value)
