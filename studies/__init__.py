"""Many runs: search, run store, executors, tables, and the `bench` command."""

from __future__ import annotations

from typing import Any


def results(table: str, **options: Any):
    """`studies.results("table1", corpus="mosi")`: a pandas DataFrame, one row per seeded run."""
    from studies.aggregate.frame import results as read

    return read(table, **options)
