"""Profiles: how much is run, and what a study of a row has beside its draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hycon.errors import UserError, check_known
from studies.registry import MODELS, literal
from studies.tables import MEASURED_BATCH, MEASURED_EPOCHS, Row

LIMITS = ("epochs", "patience")  # options that `bench run` has beside --set


@dataclass(frozen=True)
class Profile:
    """How much is run. epochs, patience: None keeps each model's own.
    shares: the profile whose searches and seeded runs this one goes on with, under that profile's name in files."""

    name: str
    trials: int
    seeds: int
    epochs: int | None = None
    patience: int | None = None
    shares: str | None = None
    demo: bool = False  # made-up corpora, tiny sizes
    encoders: Mapping[str, str] = field(default_factory=dict)


PROFILES = {
    "paper": Profile("paper", trials=50, seeds=5),  # sec. 4.4(1)
    # Five pairs cannot give p < 0.05, whatever they are (the smallest is 2 / 2^5); ten give 0.002.
    "decisive": Profile("decisive", trials=50, seeds=10, shares="paper"),
    "demo": Profile("demo", 2, 2, epochs=5, demo=True, encoders={"bert": "demo", "xlnet": "demo"}),
}


def recorded_profile(name: str) -> str:
    """The name in the study files of a profile's studies."""
    return (PROFILES[name].shares if name in PROFILES else None) or name


def profile_of(name: str, **changes: Any) -> Profile:
    """A named profile with trials, seeds, epochs or patience replaced where given."""
    check_known("profile", name, PROFILES)
    for key, value in changes.items():
        if value is not None and value < 1:
            raise UserError(f"--{key} is {value}; expected at least 1.")
    return dataclasses.replace(PROFILES[name], **{k: v for k, v in changes.items() if v is not None})


def fixed_options(row: Row, profile: Profile, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a study of the row has beside its draws: `options`, what the profile fixes, and what Table 8 does.

    Imports no torch: whoever reads a table asks too.
    """
    fixed = {**_demo_options(row), **options} if profile.demo else dict(options)
    for name in LIMITS:
        if most := getattr(profile, name):
            fixed.setdefault(name, most)
    if row.measured:
        fixed = {"batch_size": MEASURED_BATCH, "epochs": MEASURED_EPOCHS, **fixed}
        fixed["patience"] = fixed["epochs"]  # more than can pass: never stopped early
    return fixed


def _demo_options(row: Row) -> dict[str, Any]:
    """The demo profile's tiny, untrained encoders learn nothing at the paper's learning rate in five epochs."""
    tokens = row.text in ("bert", "xlnet")
    sizes = _demo_sizes(row.model).get("tokens" if tokens else "vectors", {})
    return {**sizes, **({"lr": 1e-3} if tokens else {})}


@cache
def _demo_sizes(model: str) -> dict[str, dict[str, Any]]:
    return (literal(model, "DEMO") if model in MODELS else None) or {}
