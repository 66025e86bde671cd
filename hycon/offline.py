"""No network where none is wanted: `bench --offline`, or BENCH_OFFLINE=1.

Only two things here use a network at all, and both only when asked: a text encoder that is named and lies neither in a
folder nor in the local cache, and `bench data download`.
"""

from __future__ import annotations

import os

VARIABLE = "BENCH_OFFLINE"


def go_offline() -> None:
    """In this process and those that it starts. Hugging Face's libraries read theirs when they are imported."""
    for name in (VARIABLE, "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"


def offline() -> bool:
    return os.environ.get(VARIABLE, "").lower() not in ("", "0", "false", "no")
