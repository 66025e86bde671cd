"""Options of a Config that came after runs had been kept with it.

A run's id is the hash of its configuration, so one more field would give every earlier run another id. An option that
is added `later` is left out of a run's specification while it has its default: the earlier runs keep their ids, and
mean what they meant.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def later(default: Any) -> Any:
    """A dataclass field added after the first runs. Its default must be what the model did before there was one."""
    return dataclasses.field(default=default, metadata={"later": True})


def settings(config: Any) -> dict[str, Any]:
    """A Config's options {name: value}, without those of `later` that have their default."""
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if not (field.metadata.get("later") and getattr(config, field.name) == field.default)
    }


def unset(kind: type) -> dict[str, Any]:
    """The options of `later` of a Config class, with their defaults: what a specification without them means."""
    return {field.name: field.default for field in dataclasses.fields(kind) if field.metadata.get("later")}
