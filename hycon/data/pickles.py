"""Community pickles, read without trusting them.

A pickle is a program. This reader runs it with a vocabulary of numpy arrays, numpy scalars and plain containers;
any other name in the file (`posix.system`, `copyreg._reconstructor`, a torch tensor, ...) ends the reading before
anything is called. numpy's own constructors are not handed out either, since a forged array state can make numpy
treat bytes as object pointers: the stand-ins below check every dtype and every length first.

Understood: pickle protocols 0 to 5, written by Python 2 or 3, by numpy 1 (`numpy.core`) or 2 (`numpy._core`).
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hycon.errors import UserError

# Booleans, numbers, byte and text strings, and objects (whose contents went through the same reader).
_DTYPE = re.compile(r"[biufc]\d{1,2}|\?|[SUa]\d*|O8?")


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
            content = content.encode("latin1") if isinstance(content, str) else content
            fits = isinstance(content, bytes | bytearray) and len(content) == count * dtype.itemsize
        if not fits:
            raise _Refused("a numpy array whose contents do not fit its shape")
        super().__setstate__((1, tuple(shape), dtype, bool(fortran), content))  # type: ignore[arg-type]


def _count(shape: Any) -> int:
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise _Refused(f"a numpy array of shape {shape!r}")
    return math.prod(shape)


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
    content = content.encode("latin1") if isinstance(content, str) else content
    if len(content) != dtype.itemsize:
        raise _Refused("a numpy scalar whose contents do not fit its dtype")
    return np.frombuffer(bytes(content), dtype)[0] if dtype.itemsize else dtype.type()


def _frombuffer(content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    dtype = _real(kind)
    if dtype.kind == "O" or order not in ("C", "F") or len(content) != _count(shape) * dtype.itemsize:
        raise _Refused("a numpy array whose contents do not fit its shape")
    return np.frombuffer(bytes(content), dtype).reshape(shape, order=order)


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused(f"an encoding {encoding!r}")
    return text.encode("latin1")


def _bytes(*content: Any) -> bytes:
    if content:
        raise _Refused("a call of bytes")
    return b""


def _bytearray(*content: Any) -> bytearray:
    """bytearray(10**12) would be a way to fill the memory from a file of 40 bytes."""
    if any(not isinstance(c, bytes | str) for c in content):
        raise _Refused("a call of bytearray")
    return bytearray(*content)


_CONTAINERS = {
    "list": list, "dict": dict, "tuple": tuple, "set": set, "frozenset": frozenset,
    "int": int, "float": float, "bool": bool, "str": str, "bytes": _bytes, "bytearray": _bytearray,
}  # fmt: skip
_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **{(module, name): known for module in ("builtins", "__builtin__") for name, known in _CONTAINERS.items()},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None


def load_pickle(path: str | os.PathLike) -> Any:
    """The content of a pickle made of numpy arrays and plain containers; nothing in the file executes.

    Raises UserError where the file is missing, empty, truncated, no pickle, too large for the memory, or names
    anything else (which is then named).
    """
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            return _load(handle, path.name)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error


def _load(handle: BinaryIO | io.BufferedReader, name: str) -> Any:
    start = handle.read(64)
    handle.seek(0)
    if not start:
        raise UserError(f"{name} is empty; expected a pickle.")
    try:
        return _Reader(handle, encoding="latin1").load()
    except _Refused as error:
        raise UserError(
            f"{name} holds {error}, which is neither a numpy array nor a plain container; "
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
    signatures = {
        b"version https://git-lfs": "a Git LFS pointer, not the file itself",
        b"<": "a web page",
        b"PK": "a zip archive: unpack it first",
        b"\x1f\x8b": "gzip: unpack it first",
        b"\x89HDF": "HDF5: for .csd files give their folder",
    }
    found = [what for signature, what in signatures.items() if start.lstrip().startswith(signature)]
    return f": it looks like {found[0]}" if found else ""
