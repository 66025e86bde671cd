"""Community pickles, read without trusting them.

A pickle is a program. This reader runs it with a vocabulary of numpy arrays, numpy scalars and plain containers;
any other name in the file (`posix.system`, `copyreg._reconstructor`, a torch tensor, ...) ends the reading before
anything is called. What the names stand for is in vocabulary.py.

A small file can also ask for work without end: containers that hold one another again and again are small here and
astronomical to whoever hashes, prints or converts them. So only plain keys are hashed, which needs the standard
library's unpickler in Python (slower than the one in C), and what is loaded may be no larger, written out, than some
multiple of its file.

Understood: pickle protocols 0 to 5, written by Python 2 or 3, by numpy 1 (`numpy.core`) or 2 (`numpy._core`).
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import pickle
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from hycon.data.importers.vocabulary import KNOWN, Array, Dtype, Refused, check_plain
from hycon.errors import UserError

EXPANSION = 100  # chosen here: written out, shared strings and arrays make a corpus a few times its file, not 100 times
SPARE = 10_000_000  # bytes that any file may expand to

SIGNATURES = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
    b"<": "a web page",
    b"PK": "a zip archive: unpack it first",
    b"\x1f\x8b": "gzip: unpack it first",
    b"\x89HDF": "HDF5: for .csd files give their folder",
}


def _checked(opcode: bytes, step: int) -> Any:
    """What the unpickler does at `opcode`, after a look at the keys: every `step`-th item since the last mark."""
    original = pickle._Unpickler.dispatch[opcode[0]]

    def load(reader: Any) -> None:
        check_plain(reader.stack[::step])
        original(reader)

    return load


def _load_setitem(reader: Any) -> None:
    check_plain(reader.stack[-2:-1])
    pickle._Unpickler.dispatch[pickle.SETITEM[0]](reader)


def _load_build(reader: Any) -> None:
    """Only arrays and dtypes have a state; on a function or class it would change this module for the next file."""
    if not isinstance(reader.stack[-2], Array | Dtype):
        raise Refused(f"a state for a {type(reader.stack[-2]).__name__}")
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
            return KNOWN[module, name]
        except KeyError:
            raise Refused(f"{module}.{name}") from None


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
        raise Refused("a container that holds itself")
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
            raise Refused(f"the same containers again and again, over {EXPANSION} times its size")
        return content
    except Refused as error:
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
    words = start.decode("ascii", "replace").split()[:4]
    return f": it begins with {' '.join(words)!r}" if start.isascii() and len(words) > 2 else ""
