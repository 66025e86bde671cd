"""No network unless asked for: `bench run` with every connection refused, and --offline."""

import os
import subprocess
import sys

import pytest

from hycon.errors import UserError
from hycon.offline import go_offline, offline
from hycon.pretrained import identify, locate

# Loaded by every Python process, workers and their server included: a connection, or a look-up of a name, is noted.
BLOCKED = """
import os, socket

def refused(*arguments, **options):
    with open(os.environ["CONNECTIONS"], "a") as handle:
        handle.write(repr(arguments) + "\\n")
    raise OSError("no network in this test")

connect = socket.socket.connect
socket.socket.connect = lambda self, to: connect(self, to) if self.family == socket.AF_UNIX else refused(to)
socket.getaddrinfo = refused
"""


def test_a_demo_run_makes_no_connection(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment |= {"PYTHONPATH": path, "CONNECTIONS": str(tmp_path / "connections")}
    check = "import socket\ntry: socket.create_connection(('192.0.2.1', 80))\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", check], env=environment, check=True)
    assert (tmp_path / "connections").read_text()  # the guard is there
    (tmp_path / "connections").unlink()
    command = [sys.executable, "-m", "studies.cli", "run", "table1", "--profile", "demo", "--rows", "LF-LSTM-BERT"]
    command += ["--trials", "1", "--seeds", "1", "--epochs", "1", "--quiet"]
    command += ["--data", tmp_path / "data", "--results", tmp_path / "results"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "connections").exists()


@pytest.fixture
def restored(monkeypatch):
    for name in ("BENCH_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "0")
    return monkeypatch


def test_offline_is_passed_on_to_hugging_face(restored):
    assert not offline()
    go_offline()
    assert offline()
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"


def test_an_encoder_that_is_not_here_is_one_sentence(restored):
    import huggingface_hub

    seen = {}

    def snapshot(name, **options):
        seen.update(options)
        raise FileNotFoundError

    restored.setattr(huggingface_hub, "snapshot_download", snapshot)
    restored.setenv("BENCH_OFFLINE", "1")
    with pytest.raises(UserError, match="no/such-model"):
        identify("bert", "no/such-model")
    assert seen["local_files_only"] is True
    restored.setenv("BENCH_OFFLINE", "0")
    with pytest.raises(UserError, match="no/such-model"):
        locate("bert", {"name": "no/such-model", "sha256": "0" * 64})  # for a run: never fetched
    assert seen["local_files_only"] is True
    with pytest.raises(UserError, match="no/such-model"):
        identify("bert", "no/such-model")
    assert seen["local_files_only"] is False


def test_no_download(restored, tmp_path):
    from hycon.data.importers.download import download

    restored.setenv("BENCH_OFFLINE", "1")
    with pytest.raises(UserError, match="--offline"):
        download("mosi", tmp_path)
    assert not list(tmp_path.iterdir())
