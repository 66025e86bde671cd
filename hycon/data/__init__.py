"""Corpora: imported once, memory-mapped from then on."""

from typing import TYPE_CHECKING, Any

from hycon.data.corpus import Corpus, load
from hycon.data.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from hycon.data.importers.common import Utterance
    from hycon.data.importers.convert import convert

__all__ = ["Corpus", "Manifest", "Utterance", "convert", "load", "read_manifest"]


def __getattr__(name: str) -> Any:
    """`Utterance` and `convert` when first asked for: they need numpy, which commands that only list do not."""
    if name in ("Utterance", "convert"):
        from hycon.data import importers

        return getattr(importers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
