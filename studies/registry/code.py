"""The code of models: whether what made a run is what this process has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hycon.source import changed, sources
from studies.registry.models import MODELS, literal, path_of, source_file


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
