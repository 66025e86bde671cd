"""The engine "inline": one run after the other in this process, for debugging and for notebooks."""

from __future__ import annotations

import time

from studies.engines.backlog import Backlog, Event
from studies.engines.child import OutOfMemory, attempt
from studies.engines.options import How
from studies.engines.signals import Interrupt


def run_inline(backlog: Backlog, how: How) -> None:
    with Interrupt(raising=True):
        while backlog.pending:
            claims = ((device, backlog.claim(device)) for device in how.devices)
            device, spec = next((claim for claim in claims if claim[1] is not None), ("", None))
            if spec is None:
                time.sleep(backlog.poll if backlog.pending else 0)
                continue
            started = time.monotonic()
            backlog.notify(Event("start", spec, device=device))
            try:
                attempt(spec, backlog.store, how.execute, str(how.data_root), device, how.keep_weights)
                backlog.settle(spec, time.monotonic() - started, device)
            except OutOfMemory as error:
                backlog.fail(spec, str(error), time.monotonic() - started, device)
