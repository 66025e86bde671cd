"""Imported once by the local executor's fork server, so that each run's process starts with all of it.

What a pretrained encoder needs of transformers takes two seconds more: `hycon.pretrained.modules` names it, for
commands whose runs have one.
"""

from __future__ import annotations

import importlib

import safetensors  # noqa: F401

import hycon.metrics  # noqa: F401
import studies.engines.one_run  # noqa: F401
from studies.registry import MODELS

for entry in MODELS.values():
    importlib.import_module(entry.module)
