"""The restricted reader: arrays and containers of every protocol come through, everything else is refused by name."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hycon.data.importers import vocabulary
from hycon.data.importers.pickles import load_pickle
from hycon.errors import UserError


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


CONTENT = {
    "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "strings": np.array(["a", "bcd"]),
    "bytes": np.array([b"a", b"bcd"]),
    "objects": np.array([["x", 1], [None, 2.5]], dtype=object),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 4)),
    "scalar": np.float32(1.5),
    "text scalar": np.str_("word"),
    "list": [1, "two", 3.0, None, True, b"four", (5, {6})],
    "ordered": OrderedDict(a=1),
    "default": defaultdict(list, a=[1]),
    "frozen": frozenset([1]),
    "array of bytes": bytearray(b"xyz"),
}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_content_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    loaded = load_pickle(save(tmp_path / "a.pkl", pickle.dumps(CONTENT, protocol=protocol)))
    assert loaded.keys() == CONTENT.keys()
    for key, expected in CONTENT.items():
        if isinstance(expected, np.ndarray):
            assert loaded[key].dtype.newbyteorder("=") == expected.dtype.newbyteorder("="), key
            np.testing.assert_array_equal(np.asarray(loaded[key]), expected)
        else:
            assert loaded[key] == expected, key
            assert type(loaded[key]) is type(expected), key


@pytest.mark.parametrize("core", ["core", "_core"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_both_of_numpys_module_paths(tmp_path: Path, core: str, protocol: int) -> None:
    array = np.arange(4.0)
    data = pickle.dumps(array, protocol=2)  # the module path is plain text in protocol 2
    data = data.replace(b"numpy._core.multiarray", f"numpy.{core}.multiarray".encode())
    np.testing.assert_array_equal(load_pickle(save(tmp_path / "a.pkl", data)), array)
    np.testing.assert_array_equal(load_pickle(save(tmp_path / "b.pkl", pickle.dumps(array, protocol=protocol))), array)


def test_python_2_strings_are_latin1(tmp_path: Path) -> None:
    assert load_pickle(save(tmp_path / "a.pkl", b"U\x04caf\xe9.")) == "café"  # SHORT_BINSTRING


def test_python_2_array(tmp_path: Path) -> None:
    """As numpy 1 under Python 2 wrote it: names and raw bytes are byte strings."""
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x04\x01\x00\xff\xfftb."
    )
    np.testing.assert_array_equal(load_pickle(save(tmp_path / "a.pkl", data)), [1, -1])


class Runs:
    """An object whose unpickling calls a function of the attacker's choice."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_command_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    import os

    witness = tmp_path / "executed"
    data = pickle.dumps({"train": [Runs(os.system, f"touch {witness}")]}, protocol=protocol)
    with pytest.raises(UserError, match=r"holds posix\.system, .*nothing in it was executed"):
        load_pickle(save(tmp_path / "a.pkl", data))
    assert not witness.exists()
    pickle.loads(data)  # the same bytes do run elsewhere: the test can fail
    assert witness.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval", "builtins exec", "builtins getattr", "__builtin__ eval", "builtins __import__",
        "builtins object", "copyreg _reconstructor", "copy_reg _reconstructor", "copyreg add_extension", "os system",
        "subprocess Popen",
        "numpy load", "numpy.testing._private.utils runstring", "numpy.core.multiarray array", "functools partial",
        "operator attrgetter", "torch._utils _rebuild_tensor_v2", "pandas.core.frame DataFrame", "numpy ndarray.tofile",
        "collections namedtuple", "_codecs decode", "__main__ Own",
    ],
)  # fmt: skip
@pytest.mark.parametrize("stack", [False, True])
def test_every_other_name_is_refused(tmp_path: Path, name: str, stack: bool) -> None:
    module, attribute = name.split(" ")
    if stack:  # protocol 4's STACK_GLOBAL
        short = lambda s: b"\x8c" + bytes([len(s)]) + s.encode()  # noqa: E731
        data = b"\x80\x04" + short(module) + short(attribute) + b"\x93)R."
    else:
        data = f"c{module}\n{attribute}\n)R.".encode()
    with pytest.raises(UserError, match=f"{module}.{attribute}"):
        load_pickle(save(tmp_path / "a.pkl", data))


def test_extension_registry_gives_no_way_round(tmp_path: Path) -> None:
    import copyreg
    import os

    copyreg.add_extension("posix", "system", 0x7E)
    try:
        witness = tmp_path / "executed"
        data = pickle.dumps(Runs(os.system, f"touch {witness}"), protocol=2)
        assert b"\x82\x7e" in data  # EXT1
        with pytest.raises(UserError, match=r"posix\.system"):
            load_pickle(save(tmp_path / "a.pkl", data))
        assert not witness.exists()
    finally:
        copyreg.remove_extension("posix", "system", 0x7E)
        copyreg.clear_extension_cache()


RECONSTRUCT = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"


EIGHT_BYTES = b"c_codecs\nencode\n(S'AAAAAAAA'\nS'latin1'\ntR"


def dtype(spec: str, names: bytes = b"N", fields: bytes = b"N") -> bytes:
    state = b"(I3\nS'<'\nN" + names + fields + b"I-1\nI-1\nI0\ntb"
    return f"cnumpy\ndtype\n(S'{spec}'\nI0\nI1\ntR".encode() + state


@pytest.mark.parametrize(
    "data",
    [
        # 16 bytes of "object pointers": numpy would follow them
        RECONSTRUCT + b"(I1\n(I2\nt" + dtype("O8") + b"I00\nS'AAAAAAAABBBBBBBB'\ntb.",
        RECONSTRUCT + b"(I1\n(I9\nt" + dtype("f8") + b"I00\nS'AAAAAAAA'\ntb.",
        RECONSTRUCT + b"(I1\n(I-1\nt" + dtype("f8") + b"I00\nS''\ntb.",
        RECONSTRUCT + b"(I1\n(I1000000000000\nt" + dtype("f8") + b"I00\nS''\ntb.",
        RECONSTRUCT + b"(I1\n(I1\nt" + dtype("V8") + b"I00\nS'AAAAAAAA'\ntb.",
        RECONSTRUCT + b"(I1\n(I1\nt" + dtype("f8", b"(S'a'\nt", b"(dS'a'\nI0\ns") + b"I00\nS'AAAAAAAA'\ntb.",
        RECONSTRUCT + b"(I1\n(I1\ntNI00\nS'AAAAAAAA'\ntb.",
        RECONSTRUCT + b"(I1\n(I1000000000000\nI0\nt" + dtype("f8") + b"I00\nS''\ntb.",
        b"cnumpy\nndarray\n((I1000000000000\ntS'f8'\n" + EIGHT_BYTES + b"I0\n(I0\nttR.",  # every row the same 8 bytes
        b"\x80\x02cnumpy\nndarray\n(I1000\nt\x85\x81.",  # NEWOBJ
        b"cnumpy._core.multiarray\nscalar\n(" + dtype("f8") + b"S'AA'\ntR.",
        b"cbuiltins\nbytearray\n(I100000000000\ntR.",
        b"cbuiltins\nbytes\n(I100000000000\ntR.",
        b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.",
    ],
)  # fmt: skip
def test_forged_arrays_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UserError, match=r"a\.pkl"):
        load_pickle(save(tmp_path / "a.pkl", data))


def test_items_of_no_size_are_refused_in_any_number(tmp_path: Path) -> None:
    """b"" is 10**11 items of S0, and whoever looks at each of them never comes to an end."""
    big = b"(I100000000000\nt"
    forged = {
        "state": RECONSTRUCT + b"(I1\n" + big + dtype("S0") + b"I00\nS''\ntb.",
        "text": RECONSTRUCT + b"(I1\n" + big + dtype("U0") + b"I00\nS''\ntb.",
        "buffer": b"cnumpy._core.numeric\n_frombuffer\n(c_codecs\nencode\n(S''\nS'latin1'\ntR"
        + dtype("S0") + big + b"S'C'\ntR.",
    }  # fmt: skip
    for data in forged.values():
        with pytest.raises(UserError, match="contents do not fit its shape"):
            load_pickle(save(tmp_path / "a.pkl", data))


def doubled(innermost: bytes, pair: bytes, times: int = 64) -> bytes:
    """A pickled container that holds itself of one level below twice, and so on: 2 ** times innermost ones."""
    return innermost + b"".join(b"q%c" % i + b"h%c" % i + pair for i in range(times))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x80\x02}" + doubled(b"N\x85", b"\x86") + b"Ns.", "a key .* that is a tuple"),
        (b"\x80\x02}(" + doubled(b"N\x85", b"\x86") + b"Nu.", "a key .* that is a tuple"),
        (b"\x80\x02(" + doubled(b"N\x85", b"\x86") + b"Nd.", "a key .* that is a tuple"),
        (b"\x80\x04(" + doubled(b"N\x85", b"\x86") + b"\x91.", "a key .* that is a tuple"),
        (b"\x80\x04\x8f(" + doubled(b"N\x85", b"\x86") + b"\x90.", "a key .* that is a tuple"),
        (b"\x80\x02cbuiltins\nset\n](" + doubled(b"N\x85", b"\x86") + b"e\x85R.", "a key .* that is a tuple"),
        (b"\x80\x02ccollections\nOrderedDict\n](" + doubled(b"N\x85", b"\x86") + b"N\x86e\x85R.", "that is a tuple"),
        (b"\x80\x02cbuiltins\nstr\n" + doubled(b"N\x85", b"\x86") + b"\x85R.", "a call of str"),
        (b"\x80\x02" + doubled(b"N\x85", b"\x86") + b".", "again and again"),
        (b"\x80\x02]q\x00h\x00a.", "a container that holds itself"),
    ],
)  # fmt: skip
def test_containers_in_one_another_without_end(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        load_pickle(save(tmp_path / "a.pkl", data))


def test_an_array_in_too_many_places(tmp_path: Path) -> None:
    array = np.zeros(1000)
    few, many = [array] * 90, [array] * 2000
    assert len(load_pickle(save(tmp_path / "a.pkl", pickle.dumps(few)))) == 90
    with pytest.raises(UserError, match="again and again, over 100 times its size"):
        load_pickle(save(tmp_path / "a.pkl", pickle.dumps(many)))


def test_loading_changes_nothing_for_the_next_file(tmp_path: Path) -> None:
    """BUILD on a function or class of ours must not alter it."""
    before = pickle.dumps(np.arange(3.0), protocol=2)
    for target in (b"cnumpy\nndarray\n", b"cbuiltins\nlist\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n"):
        with pytest.raises(UserError):
            load_pickle(save(tmp_path / "a.pkl", target + b"(N(dS'__setstate__'\nI1\nstb."))
    assert not hasattr(vocabulary._encode, "__setstate__")
    np.testing.assert_array_equal(load_pickle(save(tmp_path / "b.pkl", before)), np.arange(3.0))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "web page"),
        (b"PK\x03\x04xxxx", "zip archive"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"hello world, this is text", "not a readable pickle: it begins with 'hello world, this is'"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x", r"a\.pkl"),  # a string said to have 4 EiB
        (b"\x80\x09N.", "not a readable pickle"),
        (b"P1\n.", "not a readable pickle"),  # a persistent id
    ],
)
def test_damaged_and_foreign_files(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        load_pickle(save(tmp_path / "a.pkl", data))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load_pickle(tmp_path / "none.pkl")
    with pytest.raises(UserError, match="directory"):
        load_pickle(tmp_path)


def test_truncated_anywhere(tmp_path: Path) -> None:
    data = pickle.dumps(CONTENT, protocol=4)
    for end in range(1, len(data), 29):
        with pytest.raises(UserError, match="not a readable pickle"):
            load_pickle(save(tmp_path / "a.pkl", data[:end]))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 5), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_give_content_or_one_error(tmp_path_factory, protocol: int, changes) -> None:
    data = bytearray(pickle.dumps(CONTENT, protocol=protocol))
    for place, value in changes:
        data[place % len(data)] = value
    path = save(tmp_path_factory.mktemp("flipped") / "a.pkl", bytes(data))
    try:
        load_pickle(path)
    except UserError as error:
        assert "a.pkl" in str(error)
