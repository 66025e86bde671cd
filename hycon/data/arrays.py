"""Reading .npy and .npz that others wrote: nothing is unpickled, and nothing is unpacked beyond what it declares.

A few kB of zip can declare, or unpack to, more than any memory holds. So sizes are looked at before anything is made.
"""

from __future__ import annotations

import io
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np

LARGEST = 2**32  # bytes of one array; chosen here: MOSEI's audio, 22777 utterances of 50 rows of 74 float32, has 340 MB
READ = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

# What zipfile raises, beside its own error, for archives that are damaged or forged. ValueError, OverflowError and
# LZMAError were found by fuzzing.
BAD_ZIP = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError, struct.error, OverflowError,
    lzma.LZMAError
)  # fmt: skip


class Damaged(ValueError):
    """What is wrong, as half a sentence."""


def read_npy(handle: IO[bytes], size: int) -> np.ndarray:
    """The array of a .npy of `size` bytes. Raises Damaged: not numbers or text, too short, too large."""
    try:
        header = READ[np.lib.format.read_magic(handle)]
        shape, fortran, dtype = header(handle)
    except (KeyError, ValueError, TypeError, SyntaxError, EOFError, MemoryError, RecursionError) as error:
        raise Damaged("not a .npy header that is known here") from error
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise Damaged(f"of dtype {dtype}, not of numbers or text")
    count = math.prod(shape)
    declared = count * dtype.itemsize
    if min(shape, default=0) < 0 or declared > size or declared > LARGEST or (declared == 0 and count):
        raise Damaged(f"of shape {shape}, {declared} bytes by its header in {size}")
    content = handle.read(declared)
    if len(content) != declared:
        raise Damaged("cut off")
    array = np.frombuffer(bytearray(content), dtype=dtype)  # bytearray: writable
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def read_npz(content: bytes | IO[bytes]) -> Iterator[tuple[str, np.ndarray]]:
    """(name, array) of each member, one at a time. Raises Damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(content) if isinstance(content, bytes) else content) as archive:
            for info in archive.infolist():
                with archive.open(info) as member:
                    yield info.filename.removesuffix(".npy"), read_npy(member, info.file_size)
    except Damaged:
        raise
    except BAD_ZIP as error:
        raise Damaged(f"no readable .npz file ({error})") from error
