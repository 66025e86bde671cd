"""Downloads against a real HTTP server on loopback that misbehaves in the ways servers do."""

from __future__ import annotations

import hashlib
import http.server
import io
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from hycon.data.importers.download import PIECE, download
from hycon.errors import UserError

h5py = pytest.importorskip("h5py")
NAMES = {  # mmsdk's recipe for MOSI, and the paths on its server
    "CMU_MOSI_TimestampedWords.csd": "/CMU-MOSI/language/",
    "CMU_MOSI_COVAREP.csd": "/CMU-MOSI/acoustic/",
    "CMU_MOSI_VisualFacet_4.1.csd": "/CMU-MOSI/visual/",
    "CMU_MOSI_Opinion_Labels.csd": "/CMU-MOSI/labels/",
}
WORDS, COVAREP = "CMU_MOSI_TimestampedWords.csd", "CMU_MOSI_COVAREP.csd"


def hdf5(seed: int, size: int = 40_000) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as handle:
        handle["x"] = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    return buffer.getvalue()


FILES = {folder + name: hdf5(i) for i, (name, folder) in enumerate(NAMES.items())}


@dataclass
class Server:
    url: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (file name, Range)
    cuts: dict[str, list[int]] = field(default_factory=dict)  # file name -> bytes to send before each cut
    status: dict[str, list[int]] = field(default_factory=dict)  # file name -> answers before the real one
    ranges: bool = True
    etag: str = '"v1"'

    def of(self, name: str) -> list[str | None]:
        return [span for file, span in self.requests if file == name]


class Handler(http.server.BaseHTTPRequestHandler):
    server_state: Server

    def do_GET(self) -> None:
        state, name = self.server_state, self.path.rsplit("/", 1)[-1]
        state.requests.append((name, self.headers.get("Range")))
        if state.status.get(name):
            self.send_error(state.status[name].pop(0))
            return
        if self.path not in state.files:
            self.send_error(404)
            return
        data, start = state.files[self.path], 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted and state.ranges and self.headers.get("If-Range", state.etag) == state.etag:
            start = int(wanted[1])
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("ETag", state.etag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut = state.cuts[name].pop(0) if state.cuts.get(name) else len(data)
        self.wfile.write(data[start : start + cut])
        self.close_connection = True

    def log_message(self, *_arguments) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()
    handler = type("BoundHandler", (Handler,), {"server_state": state})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        state.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        running.shutdown()
        thread.join()


def fetch(server: Server, root: Path, **options) -> Path:
    options = {"base_urls": [server.url], "progress": False, "pause": 0.0, "timeout": (2.0, 2.0), **options}
    return download("mosi", root, **options)


def assert_complete(folder: Path, files: dict[str, bytes] = FILES) -> None:
    expected = {path.rsplit("/", 1)[-1]: data for path, data in files.items()}
    assert {p.name: p.read_bytes() for p in folder.glob("*.csd")} == expected
    for name, data in expected.items():
        assert (folder / f"{name}.sha256").read_text() == f"{hashlib.sha256(data).hexdigest()}  {name}\n"
    assert not list(folder.glob("*.part*"))
    assert not list(folder.glob("*.etag"))


def test_all_files_once(server: Server, root: Path) -> None:
    folder = fetch(server, root)
    assert folder == root / "downloads" / "mosi"
    assert_complete(folder)
    assert sorted(server.requests) == sorted((name, None) for name in NAMES)
    assert_complete(fetch(server, root))
    assert len(server.requests) == 4  # the second call asked for nothing


def test_the_folder_is_no_corpus(server: Server, root: Path) -> None:
    from hycon.data.manifest import list_corpora

    fetch(server, root)
    assert list_corpora(root) == []


def test_a_connection_cut_half_way_is_resumed(server: Server, root: Path) -> None:
    server.cuts[COVAREP] = [PIECE + 3, PIECE + 5]
    assert_complete(fetch(server, root))
    assert server.of(COVAREP) == [None, f"bytes={PIECE}-", f"bytes={2 * PIECE}-"]


def test_the_next_call_resumes_what_this_one_left(server: Server, root: Path) -> None:
    server.cuts[COVAREP] = [PIECE, 0, 0, 0]
    with pytest.raises(
        UserError, match=r"CMU_MOSI_COVAREP\.csd could not be downloaded: .*keeps breaking.*16384 bytes"
    ) as caught:
        fetch(server, root)
    assert "By hand: put CMU_MOSI_TimestampedWords.csd" in str(caught.value)
    folder = root / "downloads" / "mosi"
    assert (folder / f"{COVAREP}.part").stat().st_size == PIECE
    assert not (folder / COVAREP).exists()
    server.requests.clear()
    assert_complete(fetch(server, root))
    assert server.of(COVAREP) == [f"bytes={PIECE}-"]
    assert server.of(WORDS) == []


def test_a_server_without_ranges_starts_again(server: Server, root: Path) -> None:
    server.ranges = False
    server.cuts[COVAREP] = [PIECE]
    assert_complete(fetch(server, root))
    assert server.of(COVAREP) == [None, f"bytes={PIECE}-"]


def test_a_file_that_changed_meanwhile_is_not_glued_together(server: Server, root: Path) -> None:
    server.cuts[COVAREP] = [PIECE, 0, 0, 0]
    with pytest.raises(UserError):
        fetch(server, root)
    path = NAMES[COVAREP] + COVAREP
    server.files[path], server.etag = hdf5(99), '"v2"'
    assert_complete(fetch(server, root), server.files)


def test_a_part_that_is_whole_already(server: Server, root: Path) -> None:
    folder = root / "downloads" / "mosi"
    folder.mkdir(parents=True)
    (folder / f"{COVAREP}.part").write_bytes(FILES[NAMES[COVAREP] + COVAREP])
    (folder / f"{WORDS}.part").write_bytes(b"x" * 1_000_000)  # longer than the file: of no use
    assert_complete(fetch(server, root))


def test_errors_of_the_server_are_retried(server: Server, root: Path) -> None:
    server.status[WORDS] = [503, 500]
    assert_complete(fetch(server, root))
    assert len(server.of(WORDS)) == 3


def test_not_found_goes_to_the_next_mirror(server: Server, root: Path) -> None:
    assert_complete(fetch(server, root, base_urls=[f"{server.url}/gone", server.url]))
    assert len(server.requests) == 8  # a 404 is not repeated


def test_not_found_anywhere(server: Server, root: Path) -> None:
    del server.files[NAMES[COVAREP] + COVAREP]
    with pytest.raises(
        UserError, match=r"CMU_MOSI_COVAREP\.csd could not be downloaded: .*answers 404.*By hand: put"
    ) as caught:
        fetch(server, root)
    assert "\n" not in str(caught.value)
    assert (root / "downloads" / "mosi" / WORDS).exists()  # what came before is kept


def test_wrong_checksum(server: Server, root: Path) -> None:
    kept = root / "downloads" / "mosi" / f"{COVAREP}.sha256"
    kept.parent.mkdir(parents=True)
    kept.write_text("0" * 64)
    with pytest.raises(UserError, match=r"CMU_MOSI_COVAREP\.csd as sent has sha256 .*expected 000000000000"):
        fetch(server, root)
    assert list(kept.parent.glob(f"{COVAREP}*")) == [kept]
    kept.write_text(f"{hashlib.sha256(FILES[NAMES[COVAREP] + COVAREP]).hexdigest()}  {COVAREP}\n")
    assert_complete(fetch(server, root))


def test_a_file_changed_on_disk_is_noticed(server: Server, root: Path) -> None:
    folder = fetch(server, root)
    (folder / COVAREP).write_bytes(b"other")
    with pytest.raises(UserError, match="does not have the sha256"):
        fetch(server, root)


@pytest.mark.parametrize("body", [b"<html>moved</html>", FILES[NAMES[COVAREP] + COVAREP][:-500], b""])
def test_a_web_page_or_half_a_file_in_place_of_data(server: Server, root: Path, body: bytes) -> None:
    server.files[NAMES[COVAREP] + COVAREP] = body
    with pytest.raises(UserError, match=r"CMU_MOSI_COVAREP\.csd as sent is no whole HDF5 file"):
        fetch(server, root)
    assert not list((root / "downloads" / "mosi").glob(f"{COVAREP}*"))


def test_server_down(root: Path, monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=r"127\.0\.0\.1:\d+ cannot be reached.*By hand: .*bench data import mosi"):
            download("mosi", root, base_urls=[url], progress=False, pause=0.0)


def test_server_silent(root: Path, monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match="did not answer in time"):
            download("mosi", root, base_urls=[url], progress=False, pause=0.0, timeout=(0.2, 0.2))


def test_one_at_a_time_and_known_names(server: Server, root: Path) -> None:
    import fcntl

    with pytest.raises(UserError, match="No download is known for 'mosy'; nearest: mosi"):
        download("mosy", root)
    folder = fetch(server, root)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="Another download"):
            fetch(server, root)


def test_a_line_per_file_where_there_is_no_terminal(server: Server, root: Path, capsys) -> None:
    fetch(server, root, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split(":")[0] for line in captured.err.splitlines()] == list(NAMES)
    fetch(server, root, progress=True)
    assert capsys.readouterr().err.count("already there") == 4


def test_a_file_in_place_of_the_data_folder(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the way")
    with pytest.raises(UserError, match="is a file"):
        fetch(server, tmp_path / "data")
