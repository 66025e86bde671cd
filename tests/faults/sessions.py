"""`bench` as a session of its own that can be disturbed."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from waiting import wait_for as wait

ROWS = "EF-LSTM-GloVe,LF-LSTM-GloVe,TFN-GloVe"
RUNS = 15  # three rows, three trials and two seeds each
RUN = ["run", "table1", "--profile", "demo", "--rows", ROWS, "--trials", "3", "--seeds", "2", "--workers", "2"]

wait_for = partial(wait, seconds=200.0, pause=0.003)

FINAL = ["--quiet", "--format", "json"]  # the table and nothing else


@dataclass(frozen=True)
class Session:
    """A running `bench`. pid: of its session and process group, which all its processes are in."""

    pid: int
    out: Path

    def processes(self) -> list[int]:
        """All living processes of the session."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.pid and fields[0] not in "ZX":
                found.append(int(stat.parent.name))
        return found

    @property
    def code(self) -> int | None:
        file = Path(f"{self.out}.code")
        return int(file.read_text()) if file.exists() else None

    @property
    def text(self) -> str:
        return self.out.read_text()

    def end(self, seconds: float = 200.0) -> int:
        """Wait for the exit code, then for all processes to be gone: none may be orphaned."""
        wait_for(lambda: self.code is not None, seconds=seconds)
        wait_for(lambda: not self.processes(), seconds=10)
        return self.code


@dataclass(frozen=True)
class Place:
    """A folder with `data` and `results`, in which sessions are started."""

    folder: Path
    host: subprocess.Popen

    def start(self, *arguments: str, fake: bool = True) -> Session:
        number = len(list(self.folder.glob("*.out.pid")))
        out = self.folder / f"{number}.out"
        out.touch()
        where = ["--data", str(self.folder / "data"), "--results", str(self.folder / "results")]
        request = {"arguments": [*arguments, *where], "out": str(out), "fake": fake}
        self.host.stdin.write(json.dumps(request) + "\n")
        self.host.stdin.flush()
        pid = Path(f"{out}.pid")
        wait_for(pid.exists)
        return Session(int(pid.read_text()), out)

    def faults(self, **faults: object) -> None:
        """What fake_training does; see there. Executions are counted from here on."""
        (self.folder / "data" / "executed").unlink(missing_ok=True)
        (self.folder / "data" / "faults").write_text(json.dumps(faults))

    def executed(self) -> Counter[str]:
        file = self.folder / "data" / "executed"
        return Counter(line.split()[0] for line in file.read_text().splitlines()) if file.exists() else Counter()

    def workers(self) -> list[int]:
        file = self.folder / "data" / "executed"
        return [int(line.split()[1]) for line in file.read_text().splitlines()] if file.exists() else []

    def records(self) -> dict[str, bytes]:
        return {p.parent.name: p.read_bytes() for p in (self.folder / "results" / "runs").glob("*/record.json")}

    def hidden(self) -> list[str]:
        """Temporary files, leases and locks."""
        paths = [p for root in ("data", "results") for p in (self.folder / root).rglob("*")]
        busy = [p for p in paths if p.name.startswith(".") or p.parent.name == "leases" or ".journal.lock" in p.name]
        return sorted(str(p.relative_to(self.folder)) for p in busy)
