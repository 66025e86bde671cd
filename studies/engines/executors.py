"""The executors: what each one can do, and the function that does it. A new one is its own file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from hycon.errors import check_known
from studies.document.words import listed

if TYPE_CHECKING:
    from studies.engines.backlog import Backlog
    from studies.engines.options import How
    from studies.store.run_store import RunStore


@dataclass(frozen=True)
class Engine:
    """An executor.

    run: "module:function" of run(backlog, how), which claims specs from the backlog, has each executed by
    studies.engines.child, and settles it when it has ended. Imported only when it is used.
    remote: runs may be done on other machines, so the devices are not looked for on this one.
    no_slots: why it takes no --slots; empty: it takes them.
    preview: "module:function" of preview(store, how), the text that a dry run adds: what is asked of others.
    """

    name: str
    run: str
    remote: bool = False
    no_slots: str = ""
    takes_time_limit: bool = True
    takes_cluster: bool = False
    preview: str = ""

    def function(self) -> Callable[[Backlog, How], None]:
        return resolve_name(self.run)

    def previewed(self, store: RunStore, how: How) -> str:
        return resolve_name(self.preview)(store, how) if self.preview else ""


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("local", "studies.engines.local:run_local"),
        Engine(
            "inline",
            "studies.engines.inline:run_inline",
            no_slots="it does one run at a time",
            takes_time_limit=False,
        ),
        Engine(
            "ray",
            "studies.engines.ray:run_ray",
            remote=True,
            no_slots="lower what each run gets (gpus, memory)",
            takes_cluster=True,
        ),
        Engine(
            "slurm",
            "studies.engines.slurm:run_slurm",
            remote=True,
            takes_cluster=True,
            preview="studies.engines.slurm:asked_of_slurm",
        ),
    )
}
DEFAULT = next(iter(ENGINES))
WITHOUT_PROCESSES = "inline"  # what to try where no process can be started


def engine_of(name: str) -> Engine:
    """Raises UserError where there is none of that name."""
    check_known("executor", name, ENGINES)
    return ENGINES[name]


def names(which: Callable[[Engine], bool] = lambda engine: True, last: str = "and") -> str:
    """ "ray and slurm": the executors of which `which` is true, for messages."""
    return listed((name for name, engine in ENGINES.items() if which(engine)), last)
