"""What every format hands over, and the checks that they share: each ends in one sentence that names the place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hycon.data.importers.pickles import load_pickle
from hycon.errors import UserError


@dataclass(frozen=True)
class Utterance:
    """One utterance as an importer hands it over.

    label: a float in [-3, 3], or in [-1, 1] (sentiment), or (E,) integers 0/1, one per emotion (emotion).
    words: the transcript's words, or None where the source has only vectors.
    text: (T, d) vectors that came with the source, or None.  audio: (T, d).  vision: (T, d).
    """

    id: str
    label: Any
    audio: np.ndarray
    vision: np.ndarray
    words: Sequence[str] | None = None
    text: np.ndarray | None = None


@dataclass(frozen=True)
class Imported:
    """splits: train, valid, test.  lengths: nominal length per modality, None for 50.  emotions: the label's names.

    label_range: (-1, 1) where the format knows that the labels lie in it; None for [-3, 3].
    details: further keys of the manifest's source (counts of dropped segments, files that were used, ...).
    cropped: split -> modality -> utterances that were cropped while they were read.
    """

    splits: dict[str, list[Utterance]]
    lengths: dict[str, int] | None = None
    emotions: list[str] | None = None
    label_range: Sequence[float] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    cropped: dict[str, dict[str, int]] = field(default_factory=dict)


def text_of(value: Any) -> str:
    """A string, also where Python 2 left bytes; half surrogate pairs, which no UTF-8 file can hold, become "?"."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value).encode("utf-8", "replace").decode("utf-8")


def identity(value: Any, place: str) -> str:
    """An utterance's id; UserError naming `place` where there is none."""
    if isinstance(value, bool) or not isinstance(value, str | bytes | int | np.integer):
        raise UserError(f"{place} has {describe(value)} where its id should be; expected a string.")
    text = text_of(value)
    if not text.strip():
        raise UserError(f"{place} has an empty id.")
    return text


def describe(value: Any) -> str:
    """'a dict with keys train, test' for error messages."""
    if isinstance(value, dict):
        keys = [text_of(key) for key in list(value)[:8]]
        return f"a dict with keys {', '.join(keys)}" if keys else "an empty dict"
    if isinstance(value, Path):
        names = sorted(path.name for path in value.iterdir())[:8]
        return f"a folder with {', '.join(names)}" if names else "an empty folder"
    if isinstance(value, np.ndarray):
        return f"an array of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)} items"
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeio' else 'a'} {kind}"  # an int, a uint8


def wrong_format(what: str, format: str, expected: str, found: Any) -> UserError:
    return UserError(f"{what} is not in the {format} format: expected {expected}; found {describe(found)}.")


def check_folder(path: Path, format: str, recognised: bool, expected: str) -> None:
    """Raises UserError where `path` is a file, or a folder of another format."""
    if not path.is_dir():
        raise UserError(f"{path} is a file; give the folder that holds it (the {format} format is a folder).")
    if not recognised:
        raise wrong_format(str(path), format, f"a folder with {expected}", path)


def numbers(value: Any, what: str, dimensions: int) -> np.ndarray:
    """`value` as a float32 array with `dimensions` axes; UserError naming `what` where it is not one."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.ndim != dimensions:
        form = f"{dimensions} {'dimension' if dimensions == 1 else 'dimensions'}"
        form += ", (rows, features)" if dimensions == 2 else ""
        raise UserError(f"{what} is {describe(array)} of {array.dtype}; expected numbers in {form}.")
    with np.errstate(over="ignore"):  # what is too large for float32 becomes inf, which convert() refuses by name
        return array.astype(np.float32)


def score(value: Any, what: str) -> float:
    """A sentiment label: one number in any shape, or MOSEI's seven (sentiment first, then six emotions)."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.size not in (1, 7):
        raise UserError(f"The label of {what} is {describe(array)} of {array.dtype}; expected one number.")
    return float(array.reshape(-1)[0])


def word_level(item: Any, order: tuple[str, ...], place: str) -> Utterance:
    """The utterance of ((sequences in `order`), label, id), whose audio and vision have one row per word.

    Raises UserError naming `place` where it is not that.
    """
    form = f"(({', '.join(order)}), label, id)"
    try:
        sequences, label, segment = item
        found = dict(zip(order, sequences, strict=False))
        words, vision, audio = found.get("words"), found["vision"], found["audio"]
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{place} is not {form}; found {describe(item)}.") from error
    if not isinstance(words, list | tuple | np.ndarray) or not all(isinstance(word, str | bytes) for word in words):
        raise UserError(f"{place} has no list of words; expected {form}. Word ids alone lack their vocabulary.")
    name = identity(segment, place)
    words = [text_of(word) for word in words]
    rows = {"vision": vision, "audio": audio}
    arrays = {m: numbers(value, f"{place}: {m} of {name!r}", 2) for m, value in rows.items()}
    counts = {m: len(array) for m, array in arrays.items()}
    if not len(words) == counts["audio"] == counts["vision"]:
        raise UserError(
            f"{place}: {name!r} has {len(words)} words but {counts['audio']} audio and {counts['vision']} vision "
            "rows; expected one each."
        )
    return Utterance(id=name, label=score(label, f"{name!r} ({place})"), words=words, **arrays)


def pickle_fits(path: Path, fits: Callable[[Any], bool]) -> bool:
    """Whether `path` is a readable pickle with a content that `fits`."""
    try:
        return path.is_file() and fits(load_pickle(path))
    except UserError:
        return False


def pickled(path: Path, format: str, fits: Callable[[Any], bool], expected: str) -> Any:
    """The content of a pickle. Raises UserError where it cannot be read, or is not of `format`, which is `expected`."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; the {format} format is one pickle file.")
    content = load_pickle(path)
    if not fits(content):
        raise wrong_format(path.name, format, expected, content)
    return content
