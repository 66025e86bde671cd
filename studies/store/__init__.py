"""What was measured, on disk, and who is busy with it."""

from studies.store.run_store import RunStore

__all__ = ["RunStore"]
