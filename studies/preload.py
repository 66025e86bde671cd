"""Imported once by the local executor's fork server, so that each run's process starts with all of it."""

import importlib

import studies.execute  # noqa: F401
from studies.registry import MODELS

for entry in MODELS.values():
    importlib.import_module(entry.module)
