"""Corpora: import once, load memory-mapped ever after."""

from hycon.data.corpus import Corpus, load
from hycon.data.importers.common import Utterance
from hycon.data.importers.convert import convert
from hycon.data.manifest import Manifest, read_manifest

__all__ = ["Corpus", "Manifest", "Utterance", "convert", "load", "read_manifest"]
