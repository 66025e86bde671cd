"""The arrays that are stored with a run, as a .npz: the same bytes for the same arrays, and read without belief."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection, Mapping

import numpy as np

from hycon.data.arrays import BAD_ZIP, Damaged, read_npz

LARGEST_ARRAYS = 2**29  # bytes that predictions unpack to; chosen here: the largest corpus takes 100 MB


def read_arrays(content: bytes, needs: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of a .npz. Raises Damaged, also where they would take more memory than any run's, where one of `needs`
    is not there, and where those of one split are not of the same utterances or hold other things than they must."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(info.file_size for info in archive.infolist())
    except BAD_ZIP as error:
        raise Damaged(f"no readable .npz file ({error})") from error
    if size > LARGEST_ARRAYS:
        raise Damaged(f"it unpacks to {size} bytes")
    arrays = dict(read_npz(content))
    check_needs(arrays, needs)
    return arrays


def check_needs(arrays: Mapping[str, np.ndarray], needs: Collection[str]) -> None:
    """Raises Damaged where one of `needs` is not there, and where the arrays of a split do not fit together."""
    if lacking := sorted(set(needs) - arrays.keys()):
        raise Damaged(f"it has no {lacking[0]}")
    for split in ("valid", "test") if needs else ():
        known = {name: found for name, found in arrays.items() if name.startswith(f"{split}_")}
        odd = [name for name, found in known.items() if (found.dtype.kind == "U") != (name == f"{split}_id")]
        odd += [name for name, found in known.items() if name.endswith("_multimodal") and found.ndim != 2]
        if odd:
            raise Damaged(f"{odd[0]} holds {known[odd[0]].ndim}-d {known[odd[0]].dtype}")
        if len({np.shape(found)[:1] for found in known.values()}) > 1:
            raise Damaged(f"the arrays of {split} are not of the same utterances")


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A compressed .npz as numpy.load reads it, the same bytes for the same arrays. Refuses pickles (TypeError)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            array = np.asarray(arrays[name])
            if array.dtype.hasobject:
                raise TypeError(f"array {name!r} holds Python objects; numbers or strings are expected")
            member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980: the time of writing must not enter the hash
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as handle:
                np.lib.format.write_array(handle, array, allow_pickle=False)
    return buffer.getvalue()
