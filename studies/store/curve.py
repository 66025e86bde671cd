"""`runs/<id>/curve.jsonl`: the learning curve of a run while it trains, a JSON object a line and a line an epoch.

It is for watching, and for what a run that crashed had reached. The record of a finished run has the curve that counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from studies.store.inside import open_log, read_inside
from studies.store.run_store import CURVE, RunStore


@contextlib.contextmanager
def writing(store: RunStore, run_id: str) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Begin the file of a run anew, and give what `hycon.train.fit` takes as `on_epoch`.

    Each epoch's line is with the system when the function returns. What cannot be written is left out: no run fails
    for it. A run without an epoch leaves no file.
    """
    path = store.folder(run_id) / CURVE
    with contextlib.ExitStack() as opened:
        handle = None
        with contextlib.suppress(OSError):
            handle = opened.enter_context(open_log(path, os.O_TRUNC | os.O_APPEND)).fileno()

        def write(epoch: Mapping[str, float]) -> None:
            line = json.dumps({**epoch, "time": round(time.time(), 3)}) + "\n"
            with contextlib.suppress(OSError):
                if handle is not None:
                    os.write(handle, line.encode())

        try:
            yield write
        finally:
            with contextlib.suppress(OSError):
                if handle is not None and os.fstat(handle).st_size == 0:
                    path.unlink()


def read_curve(store: RunStore, run_id: str) -> list[dict[str, Any]]:
    """The epochs so far, in order: epoch, train_loss, valid_loss, lr, seconds, time. Empty where there are none.

    A line that is torn, as the last one may be after a crash, is left out.
    """
    try:
        lines = read_inside(store.root, store.folder(run_id) / CURVE).splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            epoch = json.loads(line)
            if isinstance(epoch, dict) and isinstance(epoch.get("epoch"), int):
                found.append(epoch)
    return found
