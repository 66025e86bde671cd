"""Command-line arguments: mistakes as UserErrors with the nearest names, and KEY=VALUE pairs."""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import re
from collections.abc import Sequence
from textwrap import shorten
from typing import Any

from hycon.errors import UserError, nearest


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are UserErrors with the nearest names; options are written out."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def error(self, message: str):
        if "unrecognized arguments: " in message:
            given = message.split(": ", 1)[1].split()[0]
            known = [o for action in self._actions for o in action.option_strings if o.startswith("--")]
            key = given.removeprefix("--").partition("=")[0].replace("-", "_")
            if not given.startswith("-"):
                folder = (
                    ": a results folder is given by --results" if os.path.isdir(given) and "--results" in known else ""
                )
                message = f"{given!r} is one argument too many{folder}"
            elif "--set" in known and key in _options_of_runs():
                message = f"unknown option {given}; an option of a model or its training is given by --set {key}=VALUE"
            else:
                message = f"unknown option {given}; nearest: {nearest(given, known)}"
        for kind, what in (("int", "a whole number"), ("float", "a number")):
            message = re.sub(f"argument (.*): invalid {kind} value: (.*)", rf"\1 is \2; expected {what}", message)
        raise UserError(f"{message[0].upper()}{message[1:]} (see `{self.prog} --help`).")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = action.option_strings[-1] if action.option_strings else action.metavar or action.dest
            raise UserError(f"Unknown {what} {value!r}; nearest: {nearest(str(value), action.choices)}.")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        namespace, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error("unrecognized arguments: " + " ".join(rest))
        return namespace, rest


def _options_of_runs() -> set[str]:
    """The fields of Training and of every Config, as the files write them: no PyTorch is imported for a message."""
    from hycon.host import source_root
    from studies.registry import MODELS, source_tree

    training = ast.parse((source_root() / "hycon/train.py").read_text(encoding="utf-8"))
    trees = [training, *(source_tree(model) for model in MODELS)]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    fields = [field for c in classes if c.name in ("Config", "Training") for field in c.body]
    return {
        field.target.id for field in fields if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


class Version(argparse.Action):
    def __call__(self, *_: Any) -> None:
        from importlib.metadata import version

        print(f"hycon-bench {version('hycon-bench')}")
        raise SystemExit(0)


def parse_pairs(pairs: Sequence[str], what: str, form: str = "KEY=VALUE") -> dict[str, str]:
    """["bert=FOLDER"] -> {"bert": "FOLDER"}."""
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"{what} is {pair!r}; expected {form}.")
    return dict(pair.split("=", 1) for pair in pairs)


def parse_values(pairs: Sequence[str]) -> dict[str, Any]:
    """["margin=0.5", "fusion=tensor"] -> numbers, booleans and None as JSON has them, the rest as text."""

    def value(key: str, text: str) -> Any:
        def number(digits: str) -> Any:
            found = float(digits)
            if not math.isfinite(found):
                raise UserError(f"--set {key} is {shorten(text, 40)}; expected a finite number.")
            return int(digits) if digits.lstrip("-").isdecimal() else found

        words = {"None": "null", "True": "true", "False": "false"}
        try:
            return json.loads(words.get(text, text), parse_int=number, parse_float=number, parse_constant=number)
        except (ValueError, RecursionError):
            return text

    return {key: value(key, text) for key, text in parse_pairs(pairs, "--set").items()}


def parse_encoders(pairs: Sequence[str]) -> dict[str, str]:
    encoders = parse_pairs(pairs, "--encoder", "bert=NAME_OR_FOLDER or xlnet=NAME_OR_FOLDER")
    for kind in encoders:
        if kind not in ("bert", "xlnet"):
            raise UserError(f"--encoder names {kind!r}; expected bert=NAME_OR_FOLDER or xlnet=NAME_OR_FOLDER.")
    return encoders
