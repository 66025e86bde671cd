"""A command reads a corpus once: its runs know what the driver has read, whenever the fork server was started."""

import os
import time

import pytest
from fake_execute import spec

from hycon.data.checksums import KEPT, SETTLED, check_corpus
from hycon.data.importers.synthetic import synthesize
from hycon.pretrained import ENCODERS
from studies.engines.options import CHECKPOINT_EVERY
from studies.engines.run import run
from studies.store.run_store import RunStore


@pytest.fixture
def did(tmp_path, monkeypatch):
    """Does runs that open a corpus; returns for each "pid name name ...", the files whose checksum it made."""
    monkeypatch.setenv(KEPT, "{}")
    store, data = RunStore(tmp_path / "results"), tmp_path / "data"
    store.check_writable()
    synthesize("tiny", data, sizes={"train": 4, "valid": 2, "test": 2})
    time.sleep(2 * SETTLED)
    options = {"executor": "local", "execute": "fake_loading:execute", "data_root": data, "preload": ()}

    def do(*numbers: int) -> list[list[str]]:
        (data / "read").unlink(missing_ok=True)
        assert not run([spec(n) for n in numbers], store, **options).failed
        return [line.split() for line in (data / "read").read_text().splitlines()]

    do.data = data
    return do


def test_no_run_reads_what_the_driver_has_read(did):
    (alone,) = did(0)  # starts the fork server, before anything is known
    assert alone[1:] == ["corpus.safetensors", "vectors.safetensors"]
    check_corpus("tiny", did.data)
    assert [len(run) for run in did(1, 2, 3)] == [1, 1, 1]


def test_a_file_that_is_changed_between_runs_is_read_again(did):
    check_corpus("tiny", did.data)
    path = did.data / "tiny" / "vectors.safetensors"
    path.write_bytes(path.read_bytes())
    assert [run[1:] for run in did(4)] == [["vectors.safetensors"]]


@pytest.mark.parametrize("name", ["MKL_CBWR", "NVIDIA_TF32_OVERRIDE"])
def test_a_run_does_not_see_what_would_move_its_numbers(go, runs, monkeypatch, name):
    """MKL_CBWR=COMPATIBLE changes every product of matrices, and no record tells of it."""
    monkeypatch.setenv(name, "1")
    asked = spec(0, asks=name)
    go([asked])
    assert (runs.folder(asked.id) / "log.txt").read_text().split()[0] == "None"
    assert os.environ[name] == "1"


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", CHECKPOINT_EVERY, ENCODERS])
def test_a_run_has_the_environment_that_its_driver_has_now(go, runs, monkeypatch, name):
    """Also where the fork server was started under another, as in a notebook and in a worker of Ray."""
    for number, value in enumerate(("1", "2", None)):
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
        asked = spec(number, asks=name)
        go([asked])
        assert (runs.folder(asked.id) / "log.txt").read_text().split()[0] == str(value)


def test_its_libraries_have_one_thread_whatever_the_driver_has(go, runs, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    asked = spec(0, asks="OMP_NUM_THREADS")
    go([asked])
    assert (runs.folder(asked.id) / "log.txt").read_text().split()[0] == "1"
