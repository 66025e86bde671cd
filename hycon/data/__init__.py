"""Corpora: import once, load memory-mapped ever after."""

from hycon.data.corpus import Corpus, Manifest, Utterance, load, read_manifest
from hycon.data.writing import convert

__all__ = ["Corpus", "Manifest", "Utterance", "convert", "load", "read_manifest"]
