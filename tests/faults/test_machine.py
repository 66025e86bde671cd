"""Random commands, kills and edits, in any order; then the commands again, and the tables of an undisturbed folder.

BENCH_LONG: 200 sequences, else a handful of short ones.
"""

import json
import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from sessions import FINAL, Place

LONG = "BENCH_LONG" in os.environ
DEMO = ["--profile", "demo", "--workers", "2"]
SEARCHED = ["run", "table1", *DEMO, "--rows", "EF-LSTM-GloVe,LF-LSTM-GloVe"]
COMMANDS = (SEARCHED, [*SEARCHED, "--epochs", "3"], ["ablate", "--remove", "iemcl", "--text", "glove", *DEMO])
MOST = ["--trials", "3", "--seeds", "2"]  # of each command at the end
READING = (
    ["table", "table1", "--profile", "demo"],
    ["claims", "--profile", "demo"],
    ["status", "table1", "--profile", "demo"],
    ["report", "--profile", "demo", "--format", "md"],
    ["list", "runs"],
    ["list", "studies"],
    ["doctor"],
)
# What only `bench verify` can find: nothing else in the folder follows from it.
UNTOLD = {"parameters", "seconds", "seconds_per_epoch", "test_seconds", "peak_memory_mib", "energy_joules", "device"}
UNTOLD |= {"weights_sha256", "environment", "commit", "notes", "started", "attempts", "failures", "resumed", "source"}
FORGED = {
    "record.json": [("metrics", {}), ("metrics", {"test": {"paper": {"acc2": 1.0}}}), ("valid_loss", 0.0), ("spec", {}),
                    ("status", "failed"), ("curve", []), ("predictions", None), ("best_epoch", 7), ("id", "0" * 16)],
    "study": [("selected", 0), ("selected", 2), ("selected", None), ("runs", []), ("runs", ["0" * 16]), ("trials", []),
              ("model", "tfn"), ("row", {"beta": 0.2}), ("options", {}), ("measured", True), ("winner_of", "0" * 16),
              ("draws", []), ("number", 3), ("data", "f" * 64), ("version", 99), ("encoder", {"name": "x"})],
    "manifest.json": [("files", {}), ("sizes", {"train": 1}), ("name", "../x"), ("task", "emotion"), ("version", 99)],
}  # fmt: skip


class Machine(RuleBasedStateMachine):
    """A results folder to which everything happens. host, undisturbed: of conftest; tables: of `undisturbed_tables`."""

    def __init__(self, undisturbed, host, tables):
        super().__init__()
        self.place = Place(Path(tempfile.mkdtemp(prefix="machine")), host)
        shutil.copytree(undisturbed.place.folder / "data", self.place.folder / "data")
        self.results = self.place.folder / "results"
        self.tables = tables
        self.told: list = []

    def bench(self, *arguments, wait: bool = True):
        self.place.faults(sleep=0.01)
        session = self.place.start(*arguments)
        self.told.append(arguments)
        return self.ended(session) if wait else session

    def ended(self, session):
        """It ended by itself, well or with one sentence, or was killed."""
        code = session.end()
        assert code in (0, 1, 2, 130, -signal.SIGKILL), session.text
        assert "Traceback" not in session.text, session.text
        if code == 2:
            assert session.text.splitlines()[-1].startswith("bench: "), session.text
        return session

    @rule(command=st.sampled_from(COMMANDS), trials=st.integers(1, 3), seeds=st.integers(1, 2))
    def run(self, command, trials, seeds):
        self.bench(*command, "--trials", str(trials), "--seeds", str(seeds))

    @rule(
        command=st.sampled_from(COMMANDS), trials=st.integers(2, 3), milliseconds=st.integers(0, 2000),
        victim=st.sampled_from(["driver", "group", "worker"]),
    )  # fmt: skip
    def run_and_kill(self, command, trials, victim, milliseconds):
        session = self.bench(*command, "--trials", str(trials), "--seeds", "2", wait=False)
        time.sleep(milliseconds / 1000)
        workers = self.place.workers()[-1:] if victim == "worker" else []
        with suppress(ProcessLookupError):
            if victim == "group":
                os.killpg(session.pid, signal.SIGKILL)
            else:
                os.kill((workers or [session.pid])[0], signal.SIGKILL)
        self.ended(session)

    @rule(command=st.sampled_from(READING))
    @precondition(lambda self: self.files())
    def read(self, command):
        self.bench(*command)

    @rule()
    @precondition(lambda self: self.files())
    def repair(self):
        self.bench("doctor", "--repair")

    @rule(without=st.sampled_from([[], ["--without-labels"]]))
    @precondition(lambda self: self.files())
    def move(self, without):
        """Through an archive into another folder, and from there through one more back into an empty one."""
        for number in (1, 2):
            archive = str(self.place.folder / f"{number}.tar.gz")
            if self.bench("export", archive, *without).code != 0:
                return  # refused with a sentence
            shutil.rmtree(self.results)
            assert self.bench("import-results", archive).code == 0
            os.unlink(archive)

    @rule(
        data=st.data(),
        where=st.floats(0, 1, exclude_max=True),
        how=st.sampled_from(["delete", "cut", "flip", "link", "pipe"]),
    )
    @precondition(lambda self: self.files())
    def harm(self, data, where, how):
        files = self.files()
        path = files[data.draw(st.integers(0, 10**6)) % len(files)]
        content = path.read_bytes()
        at = int(where * len(content))
        self.told.append((how, str(path.relative_to(self.results)), at))
        if how == "flip" and content:
            flipped = content[:at] + bytes([content[at] ^ 1 << data.draw(st.integers(0, 7))]) + content[at + 1 :]
            if not (path.name == "record.json" and untold(content, flipped)):
                path.write_bytes(flipped)
        elif how == "cut":
            path.write_bytes(content[:at])
        elif how != "flip":
            outside = self.place.folder / f"outside{len(self.told)}"
            os.rename(path, outside)
            if how == "link":
                path.symlink_to(outside)
            elif how == "pipe":
                os.mkfifo(path)

    @rule(data=st.data())
    @precondition(lambda self: self.files())
    def forge(self, data):
        files = [path for path in self.files() if kind(path) in FORGED]
        if not files:
            return
        path = files[data.draw(st.integers(0, 10**6)) % len(files)]
        with suppress(ValueError):
            raw = json.loads(path.read_bytes())
            field, value = data.draw(st.sampled_from(FORGED[kind(path)]))
            self.told.append(("forge", str(path.relative_to(self.results)), field, value))
            path.write_text(json.dumps({**raw, field: value}))

    @rule(below=st.sampled_from(["", "runs", "studies", "queue", "leases", "corpora"]), folder=st.booleans())
    @precondition(lambda self: self.files())
    def stray(self, below, folder):
        self.told.append(("stray", below, folder))
        path = self.results / below
        if path.is_dir() and not path.is_symlink():
            if folder:
                (path / "New Folder").mkdir(exist_ok=True)
            else:
                (path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
                (path / "notes.txt").write_text("mine")

    def files(self):
        """Regular files of the results folder, whatever is harmed already left out."""
        return sorted(
            p for p in self.results.rglob("*") if p.is_file() and not p.is_symlink() and "quarantine" not in p.parts
        )

    def teardown(self):
        """`bench doctor --repair` has told and set aside what is damaged; then nothing stands in the way."""
        try:
            if self.results.exists():
                self.bench("doctor", "--repair")
            found = [self.bench(*command, *MOST, *FINAL) for command in COMMANDS]
            if any("newer version of this suite" in session.text for session in found):
                return  # a version that was made up: upgrade, or use another folder
            assert [session.code for session in found] == [0] * 3, (self.told, [session.text for session in found])
            for session, table in zip(found, self.tables, strict=True):
                assert shown(session.text) == table, (self.told, session.text)
        finally:
            shutil.rmtree(self.place.folder)


def kind(path: Path) -> str:
    return "study" if path.parent.name == "studies" and path.suffix == ".json" else path.name


def untold(before: bytes, after: bytes) -> bool:
    """Whether a record differs only in what nothing else in the folder follows from."""
    with suppress(ValueError):
        a, b = json.loads(before), json.loads(after)
        return a.keys() == b.keys() and {key for key in a if a[key] != b[key]} <= UNTOLD
    return False


def shown(text: str) -> str:
    """The table: what is said before it begins with "bench: "."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("bench: "))


@pytest.fixture(scope="module")
def undisturbed_tables(undisturbed, host, tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("tables"), host)
    shutil.copytree(undisturbed.place.folder / "data", place.folder / "data")
    place.faults()
    sessions = [place.start(*command, *MOST, *FINAL) for command in COMMANDS if not place.faults()]
    assert [session.end() for session in sessions] == [0, 0, 0]
    return [shown(session.text) for session in sessions]


@pytest.mark.timeout(7200 if LONG else 300)
def test_any_sequence_ends_in_the_undisturbed_tables(undisturbed, host, undisturbed_tables):
    # Kills come at moments that no seed can repeat: what is told with a failure is what happened, not a smaller case.
    run_state_machine_as_test(
        lambda: Machine(undisturbed, host, undisturbed_tables),
        settings=settings(
            max_examples=200 if LONG else 2, stateful_step_count=7 if LONG else 4, deadline=None, database=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
        ),
    )  # fmt: skip
