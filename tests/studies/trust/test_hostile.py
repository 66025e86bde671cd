"""Files that others wrote: whatever is in them, one clear sentence or a skipped run; nothing outside our folders.

BENCH_FUZZ=5000 is the long run: examples of each property (default: few).
"""

import base64
import contextlib
import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import fill
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hycon.data import load
from hycon.data.arrays import Damaged, read_npy, read_npz
from hycon.data.importers.pickles import load_pickle
from hycon.data.importers.word_vectors import read_vectors
from hycon.errors import UserError
from studies.store import leases
from studies.store.arrays import npz_bytes
from studies.store.run_store import RunStore
from studies.store.study import load_studies

fuzz = settings(
    max_examples=int(os.environ.get("BENCH_FUZZ", "60")),
    deadline=None,
    derandomize="BENCH_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
junk = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=3), st.just("../../evil"), st.just("/etc/passwd"),
)  # fmt: skip


# ------------------------------------------------------------------------------------------------- arrays


@fuzz
@given(st.binary(max_size=300))
def test_any_bytes_as_an_array_or_an_archive(content):
    for read in (lambda: read_npy(io.BytesIO(content), len(content)), lambda: dict(read_npz(content))):
        with contextlib.suppress(Damaged):
            read()


@fuzz
@given(st.data())
def test_flipped_bytes_of_an_archive(data):
    content = bytearray(npz_bytes({"a": np.arange(12.0).reshape(3, 4), "b": np.array(["x", "yz"])}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Damaged):
        dict(read_npz(bytes(content)))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f4", ">i8", "U3", "?"])
def test_sound_arrays_are_as_numpy_reads_them(dtype, order):
    array = np.array(np.arange(6).reshape(2, 3), dtype=dtype, order=order)
    buffer = io.BytesIO()
    np.save(buffer, array)
    found = read_npy(io.BytesIO(buffer.getvalue()), len(buffer.getvalue()))
    assert np.array_equal(found, array)
    assert found.dtype == array.dtype
    assert found.flags.writeable


def forged(shape: str, dtype: str = "<f4") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(2**40,)", "(-5,)", "(4, -1)", "('x',)", "(1000000, 1000000)"])
def test_a_header_that_declares_more_than_is_there(shape):
    with pytest.raises(Damaged):
        read_npy(io.BytesIO(forged(shape)), len(forged(shape)))


def test_objects_and_items_of_no_size_are_refused():
    for content in (forged("(1,)", "|O"), forged("(1000000000,)", "<U0")):
        with pytest.raises(Damaged):
            read_npy(io.BytesIO(content), len(content))


def test_a_member_that_begins_before_its_archive_does():
    """Found by fuzzing: zipfile takes a shortened archive for one with something before it, and seeks below zero."""
    content = npz_bytes({"a": np.arange(12.0), "b": np.arange(3)})
    with pytest.raises(Damaged, match="no readable"):
        dict(read_npz(content[30:]))


def test_a_member_packed_in_a_way_that_is_damaged():
    """Found by fuzzing: zipfile passes on what LZMA says about options that it does not know."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", bytes(200))
    content = bytearray(packed.getvalue())
    content[content.index(b"a.npy") + 5 + 4] = 255  # the first byte of LZMA's properties
    with pytest.raises(Damaged, match="no readable"):
        dict(read_npz(bytes(content)))


def test_a_member_beyond_all_files():
    """Found by fuzzing: offsets of 64 bits are too large for the system's seek."""
    forged = (
        "AAAB6QRQSwECLQMtAAAACAAAACEAqRVUZmYAAAAAAAAIAAAAIQCpFVRmZf//+eD/////AQAyAAABAAAACACAAQAAAABhLm5weVBLAQIwAACQ"
        "AAAABQAAAAAAAAAAAAAAgAGdAAAAYi5ucHlQSwUGAAAEAAIAAgBmAAAAIVtUVFRUVFRUAQ=="
    )
    with pytest.raises(Damaged, match="no readable"):
        dict(read_npz(base64.b64decode(forged)))


def test_a_line_without_end_in_an_archive_of_vectors(tmp_path):
    with zipfile.ZipFile(tmp_path / "glove.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("glove.txt", b"x" * (64 << 20))
    with pytest.raises(UserError, match="line 1 is over"):
        read_vectors(tmp_path / "glove.zip", ["x"])


def test_a_pickle_that_declares_more_than_is_there(tmp_path):
    """Found by tests/fuzz: the standard library makes the bytearray before it reads."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for size in (2**30, 2**60):
        (tmp_path / "x.pkl").write_bytes(pickle.BYTEARRAY8 + struct.pack("<Q", size) + b"abc.")
        with pytest.raises(UserError, match=r"x\.pkl"):
            load_pickle(tmp_path / "x.pkl")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([bytearray(b"abc" * 1000)], protocol=5))
    assert load_pickle(tmp_path / "x.pkl") == [bytearray(b"abc" * 1000)]


# ------------------------------------------------------------------------------------------------- corpora


@pytest.fixture
def corpus(corpora, tmp_path):
    shutil.copytree(corpora / "small", tmp_path / "data" / "small")
    return tmp_path / "data" / "small"


def loads_or_refuses(corpus: Path) -> None:
    try:
        load("small", corpus.parent)
    except UserError as error:
        assert "\n" not in str(error)


@fuzz
@given(st.data())
def test_any_value_in_a_manifest(corpus, data):
    file = corpus / "manifest.json"
    content = file.read_text()
    raw = json.loads(content)
    raw[data.draw(st.sampled_from(sorted(raw)))] = data.draw(junk)
    file.write_text(json.dumps(raw))
    loads_or_refuses(corpus)
    file.write_text(content)


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..", "", 5])
def test_a_manifest_whose_name_leads_out(corpus, name):
    raw = json.loads((corpus / "manifest.json").read_text())
    (corpus / "manifest.json").write_text(json.dumps({**raw, "name": name}))
    with pytest.raises(UserError, match=r"its name is|\$\.name"):
        load("small", corpus.parent)


def with_tensors(corpus: Path, content: bytes) -> None:
    """Other tensors, with a manifest that vouches for them."""
    (corpus / "corpus.safetensors").write_bytes(content)
    raw = json.loads((corpus / "manifest.json").read_text())
    raw["files"]["corpus.safetensors"] = hashlib.sha256(content).hexdigest()
    (corpus / "manifest.json").write_text(json.dumps(raw))


def header(content: bytes) -> tuple[dict, bytes]:
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def packed(described: dict, body: bytes) -> bytes:
    text = json.dumps(described).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize("harm", ["oversized", "truncated", "overlapping", "beyond", "other numbers", "other offsets"])
def test_forged_tensors_are_refused(corpus, harm):
    content = (corpus / "corpus.safetensors").read_bytes()
    described, body = header(content)
    first, second = [name for name in described if name.endswith(".rows")][:2]
    if harm == "oversized":
        content = struct.pack("<Q", 2**62) + content[8:]
    elif harm == "truncated":
        content = content[: len(content) // 2]
    elif harm in ("overlapping", "beyond"):
        begin, end = described[second]["data_offsets"]
        moved = described[first]["data_offsets"] if harm == "overlapping" else [begin, end + 2**40]
        content = packed({**described, second: {**described[second], "data_offsets": moved}}, body)
    else:
        from safetensors.numpy import load as read
        from safetensors.numpy import save

        arrays = read(content)
        if harm == "other numbers":
            arrays["train.label"] = arrays["train.label"][:-1]
        else:
            arrays["train.audio.offsets"] = arrays["train.audio.offsets"] + 10**9
        content = save(arrays)
    with_tensors(corpus, content)
    with pytest.raises(UserError, match="damaged"):
        load("small", corpus.parent)


def shorter(arrays: dict, name: str) -> None:
    """One id, or one sentence, fewer in train."""
    strings = json.loads(arrays["train.strings"].tobytes())
    strings[name].pop()
    arrays["train.strings"] = np.frombuffer(json.dumps(strings).encode(), np.uint8)


def numbered(arrays: dict) -> None:
    strings = json.loads(arrays["train.strings"].tobytes())
    strings["ids"] = list(range(len(strings["ids"])))
    arrays["train.strings"] = np.frombuffer(json.dumps(strings).encode(), np.uint8)


def offsets(change) -> Callable[[dict], None]:
    def changed(arrays: dict) -> None:
        arrays["train.audio.offsets"] = change(arrays["train.audio.offsets"])

    return changed


DIFFERENT, OFFSETS = "train has ids, labels or sequences of different numbers", "train.audio has offsets that are not"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: shorter(arrays, "ids"), DIFFERENT),
        (lambda arrays: shorter(arrays, "words"), DIFFERENT),
        (numbered, DIFFERENT),
        (offsets(lambda found: found[:-1]), DIFFERENT),
        (offsets(lambda found: found.astype(np.float64)), "train.audio is no table of rows"),
        (offsets(lambda found: found + (np.arange(len(found)) == 0)), OFFSETS),  # the first row is nobody's
        (offsets(lambda found: found - (np.arange(len(found)) == len(found) - 1)), OFFSETS),  # nor is the last
        (offsets(lambda found: np.where(np.arange(len(found)) == 1, 0, found)), OFFSETS),  # one has no row
        (lambda arrays: arrays.update({"test.label": arrays["test.label"][:, None]}), "test.label has shape"),
        (lambda arrays: arrays.update({"valid.audio.rows": arrays["valid.audio.rows"][:, 1:]}), "valid.audio has"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(corpus, change, said):
    from safetensors.numpy import load as read
    from safetensors.numpy import save

    arrays = read((corpus / "corpus.safetensors").read_bytes())
    change(arrays)
    with_tensors(corpus, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    with pytest.raises(UserError, match=f"damaged .{said}"):
        load("small", corpus.parent)


# ------------------------------------------------------------------------------------------------- stores


@pytest.fixture
def store(tmp_path):
    made = RunStore(tmp_path / "results")
    fill(made, [0.1, 0.2])
    return made


@fuzz
@given(st.data())
def test_any_value_in_a_record_or_a_study(store, data):
    for path, read in (
        (
            data.draw(st.sampled_from(sorted((store.root / "runs").glob("*/record.json")))),
            lambda: list(store.records()),
        ),
        (next((store.root / "studies").glob("*.json")), lambda: load_studies(store)),
    ):
        content = path.read_bytes()
        raw = json.loads(content)
        raw[data.draw(st.sampled_from(sorted(raw)))] = data.draw(junk)
        path.write_text(json.dumps(raw))
        with contextlib.suppress(UserError):
            read()
        path.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {"test": {"paper": {"mae": "<script>"}}}}, {"curve": [3]}, {"notes": "x"},
        {"environment": {"a": 1}}, {"best_epoch": []},
        {"metrics": {"test": {"paper": {"mae": 10**400}}}}, {"curve": [{"epoch": 10**400}]}, {"parameters": 10**400},
        {"valid_loss": 10**400}, {"seconds": -(10**400)}, {"best_epoch": 10**400}, {"attempts": 10**400},
        {"seconds": "fast"}, {"predictions": {"sha256": None}}, {"attempts": True},
    ],
)  # fmt: skip
def test_a_record_with_a_field_of_another_type_counts_as_not_done(store, change):
    path = sorted((store.root / "runs").glob("*/record.json"))[0]
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert store.get(path.parent.name) is None
    assert f"at `$.{next(iter(change))}" in store.damage(path.parent.name).reason


@pytest.mark.parametrize("change", [{"selected": 7}, {"selected": "0"}, {"runs": [1]}, {"draws": {}}, {"row": []}])
def test_a_study_with_a_field_of_another_kind_is_skipped(store, change):
    path = next((store.root / "studies").glob("*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert load_studies(store) == []


def test_json_nested_without_end_is_damage(store, corpus):
    deep = "[" * 200_000
    for path in (corpus / "manifest.json", *store.root.glob("runs/*/record.json"), *store.root.glob("studies/*.json")):
        path.write_text(deep)
    assert list(store.records()) == []
    assert load_studies(store) == []
    assert len(store.damaged()) == 3
    with pytest.raises(UserError, match="damaged"):
        load("small", corpus.parent)


def test_nothing_is_written_through_a_link(store, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    record = next(store.records())
    shutil.rmtree(store.folder(record.id))
    store.folder(record.id).symlink_to(outside)
    for write in (lambda: store.put(record, {}), lambda: store.put_failed(record.spec, "x")):
        with pytest.raises(UserError, match="is a link"):
            write()
    assert not list(outside.iterdir())


def test_a_log_that_is_a_link_is_not_written(tmp_path):
    from studies.engines.child import _append, _redirect_output

    (tmp_path / "precious").write_text("precious")
    (tmp_path / "log.txt").symlink_to(tmp_path / "precious")
    _append(tmp_path / "log.txt", "traceback")
    _redirect_output(tmp_path / "log.txt")
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_lease_dated_ahead_does_not_block_for_years(tmp_path):
    path = tmp_path / "a.0.json"
    path.write_text(json.dumps({"machine": "another", "pid": 1, "start": 1, "ttl": 60}))
    os.utime(path, (4e9, 4e9))
    assert leases.claim(tmp_path, "a") is not None
