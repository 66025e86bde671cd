"""What a pickle may name: numpy arrays and scalars, and plain containers, each as a stand-in that checks its arguments.

numpy's own constructors are not handed out, since a forged array state can make numpy treat bytes as object pointers:
every dtype and every length is checked first. Nor is what makes much of little: arrays of items of no size, bytes by
number, and keys that Python would walk through at every look-up.
"""

from __future__ import annotations

import math
import pickle
import re
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

# Booleans, numbers, byte and text strings, and objects (whose contents went through the same reader).
_DTYPE = re.compile(r"[biufc]\d{1,2}|\?|[SUa]\d*|O8?")
EMPTY_AXIS = 1 << 20  # chosen here: the longest axis of an array without values, whose rows someone may walk through


class Refused(pickle.UnpicklingError):
    """The file names something that is neither an array nor a plain container."""


class Dtype:
    """Stands for `numpy.dtype` while a file is read; `.dtype` is the real one, without structure or metadata."""

    def __init__(self, spec: Any, *_flags: Any):
        text = spec.decode("latin1") if isinstance(spec, bytes) else spec
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            raise Refused(f"a numpy dtype {text!r}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        _version, order, subdtype, names, fields = state[:5]
        if subdtype is not None or names is not None or fields is not None:
            raise Refused("a structured numpy dtype")
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if order == "<" or order == ">":
            self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


class Array(np.ndarray):
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
            raise Refused("a numpy array whose contents do not fit its shape")
        super().__setstate__((1, tuple(shape), dtype, bool(fortran), content))  # type: ignore[arg-type]


def _count(shape: Any) -> int:
    whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not whole or (math.prod(shape) == 0 and max(shape) > EMPTY_AXIS):
        raise Refused(f"a numpy array of shape {shape!r}")
    return math.prod(shape)


def _fits(content: Any, dtype: np.dtype, count: int) -> bool:
    """Whether `content` is `count` items; no bytes would be any number of items of no size (S0, U0)."""
    return len(content) == count * dtype.itemsize and (dtype.itemsize > 0 or count == 0)


def _raw(content: Any) -> Any:
    """Python 2's byte strings, which come as latin-1 text, as bytes again."""
    return content.encode("latin1") if isinstance(content, str) else content


def _real(kind: Any) -> np.dtype:
    if not isinstance(kind, Dtype):
        raise Refused("a numpy array without a dtype")
    return kind.dtype


def _reconstruct(*_ignored: Any) -> np.ndarray:
    return np.ndarray.__new__(Array, (0,), "b")


def _scalar(kind: Any, content: Any) -> Any:
    dtype = _real(kind)
    if dtype.kind == "O":
        return content
    content = _raw(content)
    if len(content) != dtype.itemsize:
        raise Refused("a numpy scalar whose contents do not fit its dtype")
    return np.frombuffer(bytes(content), dtype)[0] if dtype.itemsize else dtype.type()


def _frombuffer(content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    dtype = _real(kind)
    if dtype.kind == "O" or order not in ("C", "F") or not _fits(content, dtype, _count(shape)):
        raise Refused("a numpy array whose contents do not fit its shape")
    return np.frombuffer(bytes(content), dtype).reshape(shape, order=order)


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused(f"an encoding {encoding!r}")
    return text.encode("latin1")


def _of_text(make: Any) -> Any:
    """`make`, of text only: bytes(10**12) would fill the memory, and str() of lists within lists could be endless."""

    def checked(*content: Any) -> Any:
        if any(not isinstance(c, bytes | str) for c in content):
            raise Refused(f"a call of {make.__name__}")
        return make(*content)

    return checked


def check_plain(keys: Iterable[Any]) -> None:
    """Refuse to hash tuples: Python walks through them every time, however often they hold one another."""
    for key in keys:
        if not isinstance(key, str | bytes | int | float | None | np.generic):
            raise Refused(f"a key or a set's member that is a {type(key).__name__}")


def _keyed(make: Any) -> Any:
    """`make`, a dict or a set, of plain keys only."""

    def checked(*arguments: Any) -> Any:
        for content in arguments:
            if not isinstance(content, dict) and not callable(content):  # callable: what a defaultdict starts with
                check_plain(item[0] for item in content) if issubclass(make, dict) else check_plain(content)
        return make(*arguments)

    return checked


_CONTAINERS = {
    "list": list, "dict": _keyed(dict), "tuple": tuple, "set": _keyed(set), "frozenset": _keyed(frozenset),
    "int": int, "float": float, "bool": bool,
    "str": _of_text(str), "bytes": _of_text(bytes), "bytearray": _of_text(bytearray),
}  # fmt: skip
KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _keyed(OrderedDict),
    ("collections", "defaultdict"): _keyed(defaultdict),
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): "numpy.ndarray",  # an argument that _reconstruct ignores; calling it would take strides
    ("numpy", "dtype"): Dtype,
    **{(module, name): known for module in ("builtins", "__builtin__") for name, known in _CONTAINERS.items()},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}
