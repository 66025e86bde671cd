"""`View`: which of a folder's results are read, and how."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hycon.errors import check_known
from hycon.metrics import PROTOCOL_NAMES
from studies.lookup.corpora import corpus_name
from studies.lookup.profiles import LIMITS, PROFILES
from studies.tables import TableSpec


@dataclass(frozen=True)
class View:
    """Which of a folder's results are read, and how. Raises UserError for an unknown profile or protocol.

    corpus: None for each table's own, or the profile's demo corpus.  data: the folder of corpora, as for
    `hycon.data.load`.  profile: only studies of this profile; None for all.  encoders: front-end -> short name of the
    pretrained encoder, only studies with it.  protocol: whose metrics.  mixed: average also runs that differ in data,
    versions or environment (studies.aggregate.comparability).  options: only studies that were run with these options
    (`--set`, and epochs and patience), and first of all those run with nothing else.  studies: ids of studies that fill
    their rows before any other.  given: options of the command as it gave them, for commands that are printed.
    """

    corpus: str | None = None
    data: str | os.PathLike | None = None
    profile: str | None = None
    encoders: Mapping[str, str] = field(default_factory=dict)
    protocol: str = "paper"
    mixed: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    studies: tuple[str, ...] = ()
    given: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        check_known("protocol", self.protocol, PROTOCOL_NAMES)
        if self.profile is not None:
            check_known("profile", self.profile, PROFILES)

    def corpus_of(self, table: TableSpec) -> str:
        """The corpus that `table` is read on."""
        return corpus_name(table, PROFILES[self.profile] if self.profile else None, self.corpus)


DEFAULT_VIEW = View()  # all that a table shows of the paper's corpora


def options_of(view: View) -> list[str]:
    """The options with which a command runs what `view` shows."""
    named = [("--corpus", view.corpus), ("--profile", view.profile)]
    encoders = [word for kind, name in view.encoders.items() for word in ("--encoder", f"{kind}={name}")]
    words = [word for option, value in named if value for word in (option, value)]
    return [*words, *(view.given or encoders), *set_words(view.options)]


def set_words(options: Mapping[str, Any]) -> list[str]:
    """Options of a model and its training as a command has them: --epochs 5 --set margin=0.5."""
    pairs = ((f"--{k}", str(v)) if k in LIMITS else ("--set", f"{k}={v}") for k, v in options.items())
    return [word for pair in pairs for word in pair]
