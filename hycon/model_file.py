"""A model in a file of one's own, outside the repository. What is run is the file's content as it was read, so the hash
of that content says which model a run trained."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from hycon.errors import UserError

FORMS = {"vectors": ("glove", "features"), "tokens": ("bert", "xlnet")}  # key of TRAINING -> text front-ends
PARTS = ("VERSION", "Config", "TRAINING", "SEARCH_SPACE", "Model")  # what a model's file must define


@dataclass(frozen=True)
class ModelFile:
    """name: the file's, without ".py", or that of an entry point.  path: where it was read.  content: its bytes then,
    which is what is run."""

    name: str
    path: str
    content: bytes

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.content, self.path)


def is_model_file(name: str) -> bool:
    return name.endswith(".py")


def read_model_file(path: str | Path, name: str | None = None) -> ModelFile:
    """The model in a file, called as the file where it has no other name.

    Raises UserError where it cannot be read, is no Python, or lacks one of PARTS. Executes nothing.
    """
    path = Path(os.path.abspath(Path(path).expanduser()))
    name = name or path.stem.replace("-", "_")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise UserError(f"{path} names the model {name!r}; expected letters, digits and _, beginning with a letter.")
    try:
        file = ModelFile(name, str(path), path.read_bytes())
        tree = file.tree
    except OSError as error:
        raise UserError(f"Cannot read the model file {path}: {error.strerror or error}.") from error
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}," if isinstance(error, SyntaxError) and error.lineno else ""
        raise UserError(f"{path}{line} is not Python: {getattr(error, 'msg', error)}.") from error
    if lacking := [part for part in PARTS if part not in _defined(tree)]:
        raise UserError(
            f"{path} defines no {' and no '.join(lacking)}: a model's file has {', '.join(PARTS)} at its top level "
            "(`bench new model NAME` writes one)."
        )
    return file


def front_ends(file: ModelFile) -> tuple[str, ...]:
    """The text front-ends of the forms that its TRAINING has. Raises UserError where its keys are not written out."""
    value = assigned(file.tree, "TRAINING")
    keys = value.keys if isinstance(value, ast.Dict) else [None]
    forms = [key.value if isinstance(key, ast.Constant) else None for key in keys]
    if not forms or any(form not in FORMS for form in forms):
        raise UserError(
            f'TRAINING in {file.path} is no dict with the keys written out; expected {{"vectors": Training(...)}}, '
            '{"tokens": Training(...)} or both in one.'
        )
    return tuple(text for form, texts in FORMS.items() if form in forms for text in texts)


def assigned(tree: ast.Module, variable: str) -> ast.expr | None:
    """What a module's top level assigns to a variable, as it is written; None where it does not."""
    for node in tree.body:
        if variable in _targets(node):
            return node.value  # type: ignore[attr-defined]
    return None


def constant(tree: ast.Module, variable: str) -> Any:
    """The value of a plain constant of a module; None where it has none."""
    value = assigned(tree, variable)
    return None if value is None else ast.literal_eval(value)


def load(file: ModelFile) -> ModuleType:
    """The module that the content makes, executed once in a process.

    Raises UserError, which names file and line, where that fails.
    """
    name = f"hycon_model_{file.sha256[:16]}_{file.name}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = file.path
    sys.modules[name] = module  # dataclasses look for their fields' types there
    try:
        exec(compile(file.content, file.path, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        what = "the file ends the program" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
        raise UserError(f"{place(error, file.path) or file.path}: {what}.") from error
    return module


def place(error: BaseException, path: str | None) -> str | None:
    """ "/home/me/my.py, line 12": the last line of a file that an error came through; None: it came through none."""
    found, trace = None, error.__traceback__
    while path and isinstance(trace, TracebackType):
        if trace.tb_frame.f_code.co_filename == path:
            found = f"{path}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _defined(tree: ast.Module) -> set[str]:
    named = (ast.ClassDef, ast.FunctionDef)
    names = {node.name for node in tree.body if isinstance(node, named)}
    names |= {a.asname or a.name for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names}
    return names.union(*map(_targets, tree.body))


def _targets(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]
