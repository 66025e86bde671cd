"""Corpora: import once, load memory-mapped ever after."""

from hycon.data.corpus import Corpus, Manifest, Utterance, convert, load, read_manifest

__all__ = ["Corpus", "Manifest", "Utterance", "convert", "load", "read_manifest"]
