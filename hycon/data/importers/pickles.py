"""Community pickles, read without trusting them.

A pickle is a program. This reader runs it with a vocabulary of numpy arrays, numpy scalars and plain containers;
any other name in the file (`posix.system`, `copyreg._reconstructor`, a torch tensor, ...) ends the reading before
anything is called. numpy's own constructors are not handed out either, since a forged array state can make numpy
treat bytes as object pointers: the stand-ins below check every dtype and every length first.

A small file can also ask for work without end: arrays of items of no size, and containers that hold one another
again and again, which are small here and astronomical to whoever hashes, prints or converts them. So only plain keys
are hashed, and what is loaded may be no larger, written out, than some multiple of its file. The former needs the
standard library's unpickler in Python, which is slower than the one in C.

Understood: pickle protocols 0 to 5, written by Python 2 or 3, by numpy 1 (`numpy.core`) or 2 (`numpy._core`).
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
import pickle
import re
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from hycon.errors import UserError

# Booleans, numbers, byte and text strings, and objects (whose contents went through the same reader).
_DTYPE = re.compile(r"[biufc]\d{1,2}|\?|[SUa]\d*|O8?")
EMPTY_AXIS = 1 << 20  # chosen here: the longest axis of an array without values, whose rows someone may walk through
EXPANSION = 100  # chosen here: written out, shared strings and arrays make a corpus a few times its file, not 100 times
SPARE = 10_000_000  # bytes that any file may expand to

SIGNATURES = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
    b"<": "a web page",
    b"PK": "a zip archive: unpack it first",
    b"\x1f\x8b": "gzip: unpack it first",
    b"\x89HDF": "HDF5: for .csd files give their folder",
}


class _Refused(pickle.UnpicklingError):
    """The file names something that is neither an array nor a plain container."""


class _Dtype:
    """Stands for `numpy.dtype` while a file is read; `.dtype` is the real one, without structure or metadata."""

    def __init__(self, spec: Any, *_flags: Any):
        text = spec.decode("latin1") if isinstance(spec, bytes) else spec
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            raise _Refused(f"a numpy dtype {text!r}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        _version, order, subdtype, names, fields = state[:5]
        if subdtype is not None or names is not None or fields is not None:
            raise _Refused("a structured numpy dtype")
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if order == "<" or order == ">":
            self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


class _Array(np.ndarray):
    """An array whose state is checked before numpy sees it."""

    def __setstate__(self, state: Any) -> None:
        shape, kind, fortran, content = state[-4:]
        dtype = _real(kind)
        count = _count(shape)
        if dtype.kind == "O":
            fits = isinstance(content, list) and len(content) == count
        else:
            content = _raw(content)
            fits = isinstance(content, bytes | bytearray) and _fits(content, dtype, count)
        if not fits:
            raise _Refused("a numpy array whose contents do not fit its shape")
        super().__setstate__((1, tuple(shape), dtype, bool(fortran), content))  # type: ignore[arg-type]


def _count(shape: Any) -> int:
    whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not whole or (math.prod(shape) == 0 and max(shape) > EMPTY_AXIS):
        raise _Refused(f"a numpy array of shape {shape!r}")
    return math.prod(shape)


def _fits(content: Any, dtype: np.dtype, count: int) -> bool:
    """Whether `content` is `count` items; no bytes would be any number of items of no size (S0, U0)."""
    return len(content) == count * dtype.itemsize and (dtype.itemsize > 0 or count == 0)


def _raw(content: Any) -> Any:
    """Python 2's byte strings, which come as latin-1 text, as bytes again."""
    return content.encode("latin1") if isinstance(content, str) else content


def _real(kind: Any) -> np.dtype:
    if not isinstance(kind, _Dtype):
        raise _Refused("a numpy array without a dtype")
    return kind.dtype


def _reconstruct(*_ignored: Any) -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), "b")


def _scalar(kind: Any, content: Any) -> Any:
    dtype = _real(kind)
    if dtype.kind == "O":
        return content
    content = _raw(content)
    if len(content) != dtype.itemsize:
        raise _Refused("a numpy scalar whose contents do not fit its dtype")
    return np.frombuffer(bytes(content), dtype)[0] if dtype.itemsize else dtype.type()


def _frombuffer(content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    dtype = _real(kind)
    if dtype.kind == "O" or order not in ("C", "F") or not _fits(content, dtype, _count(shape)):
        raise _Refused("a numpy array whose contents do not fit its shape")
    return np.frombuffer(bytes(content), dtype).reshape(shape, order=order)


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused(f"an encoding {encoding!r}")
    return text.encode("latin1")


def _of_text(make: Any) -> Any:
    """`make`, of text only: bytes(10**12) would fill the memory, and str() of lists within lists could be endless."""

    def checked(*content: Any) -> Any:
        if any(not isinstance(c, bytes | str) for c in content):
            raise _Refused(f"a call of {make.__name__}")
        return make(*content)

    return checked


def _plain(keys: Iterable[Any]) -> None:
    """Refuse to hash tuples: Python walks through them every time, however often they hold one another."""
    for key in keys:
        if not isinstance(key, str | bytes | int | float | None | np.generic):
            raise _Refused(f"a key or a set's member that is a {type(key).__name__}")


def _keyed(make: Any) -> Any:
    """`make`, a dict or a set, of plain keys only."""

    def checked(*arguments: Any) -> Any:
        for content in arguments:
            if not isinstance(content, dict) and not callable(content):  # callable: what a defaultdict starts with
                _plain(item[0] for item in content) if issubclass(make, dict) else _plain(content)
        return make(*arguments)

    return checked


_CONTAINERS = {
    "list": list, "dict": _keyed(dict), "tuple": tuple, "set": _keyed(set), "frozenset": _keyed(frozenset),
    "int": int, "float": float, "bool": bool,
    "str": _of_text(str), "bytes": _of_text(bytes), "bytearray": _of_text(bytearray),
}  # fmt: skip
_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _keyed(OrderedDict),
    ("collections", "defaultdict"): _keyed(defaultdict),
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): "numpy.ndarray",  # an argument that _reconstruct ignores; calling it would take strides
    ("numpy", "dtype"): _Dtype,
    **{(module, name): known for module in ("builtins", "__builtin__") for name, known in _CONTAINERS.items()},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


def _checked(opcode: bytes, step: int) -> Any:
    """What the unpickler does at `opcode`, after a look at the keys: every `step`-th item since the last mark."""
    original = pickle._Unpickler.dispatch[opcode[0]]

    def load(reader: Any) -> None:
        _plain(reader.stack[::step])
        original(reader)

    return load


def _load_setitem(reader: Any) -> None:
    _plain(reader.stack[-2:-1])
    pickle._Unpickler.dispatch[pickle.SETITEM[0]](reader)


def _load_build(reader: Any) -> None:
    """Only arrays and dtypes have a state; on a function or class it would change this module for the next file."""
    if not isinstance(reader.stack[-2], _Array | _Dtype):
        raise _Refused(f"a state for a {type(reader.stack[-2]).__name__}")
    pickle._Unpickler.dispatch[pickle.BUILD[0]](reader)


def _load_bytearray8(reader: Any) -> None:
    """The library's makes as many bytes as the file declares before it reads any: nine bytes could ask for 2**60."""
    size = int.from_bytes(reader.read(8), "little")
    content = reader.read(size)
    if len(content) != size:
        raise pickle.UnpicklingError("pickle data was truncated")
    reader.append(bytearray(content))


class _Reader(pickle._Unpickler):
    dispatch: ClassVar = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _load_build,
        pickle.BYTEARRAY8[0]: _load_bytearray8,
        pickle.SETITEM[0]: _load_setitem,
        **{opcode[0]: _checked(opcode, 2) for opcode in (pickle.SETITEMS, pickle.DICT)},
        **{opcode[0]: _checked(opcode, 1) for opcode in (pickle.ADDITEMS, pickle.FROZENSET)},
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None


def _expanded(value: Any, seen: dict[int, int]) -> int:
    """Bytes of `value` written out, with everything that is in several places counted in each; about one per object.

    seen: id -> bytes of the containers so far, -1 while one is being counted.
    """
    if isinstance(value, str | bytes | bytearray):
        return 1 + len(value)
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return 1 + value.nbytes
    if isinstance(value, dict):
        parts: Iterable[Any] = itertools.chain(value, value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        parts = value
    elif isinstance(value, np.ndarray):
        parts = value.flat
    else:
        return 1
    size = seen.get(id(value))
    if size == -1:
        raise _Refused("a container that holds itself")
    if size is None:
        seen[id(value)] = -1
        size = seen[id(value)] = 1 + sum(_expanded(part, seen) for part in parts)
    return size


_kept: ContextVar[dict[Path, Any]] = ContextVar("kept")  # the last file: its content, or why it cannot be read


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Within it the last file is kept, so that several formats can look into it and it is read once."""
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def load_pickle(path: str | os.PathLike) -> Any:
    """The content of a pickle made of numpy arrays and plain containers; nothing in the file executes.

    Raises UserError where the file is missing, empty, truncated, no pickle, too large for the memory, or names
    anything else (which is then named).
    """
    path, last = Path(path), _kept.get({})
    if path not in last:
        last.clear()
        try:
            with open(path, "rb") as handle:
                last[path] = _load(handle, path.name)
        except OSError as error:
            last[path] = UserError(f"Cannot read {path}: {error.strerror or error}.")
        except UserError as error:
            last[path] = error
    if isinstance(last[path], UserError):
        raise last[path]
    return last[path]


def _load(handle: BinaryIO | io.BufferedReader, name: str) -> Any:
    start = handle.read(64)
    handle.seek(0)
    if not start:
        raise UserError(f"{name} is empty; expected a pickle.")
    try:
        content = _Reader(handle, encoding="latin1").load()
        if _expanded(content, {}) > SPARE + EXPANSION * handle.seek(0, os.SEEK_END):
            raise _Refused(f"the same containers again and again, over {EXPANSION} times its size")
        return content
    except _Refused as error:
        raise UserError(
            f"{name} holds {error}, but only numpy arrays and plain containers are read; "
            "the file was refused and nothing in it was executed."
        ) from error
    except MemoryError as error:
        raise UserError(f"{name} needs more memory than there is, or is damaged; nothing was read.") from error
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise anything; whatever it is, the file is the reason
        raise UserError(f"{name} is not a readable pickle{_guess(start)} ({error or type(error).__name__}).") from error


def _guess(start: bytes) -> str:
    """What the file is instead, where its first bytes tell."""
    for signature, what in SIGNATURES.items():
        if start.lstrip().startswith(signature):
            return f": it looks like {what}"
    return ""
