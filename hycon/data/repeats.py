"""What captions say of features that repeat: a corpus whose test rows stand in train too is not what it seems.

`Manifest.repeats` has the counts (hycon.data.importers.repeats makes them): modality -> split -> one of COUNTS -> n.
They are no part of a corpus's identity: the same files have the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hycon.data.manifest import Manifest

COUNTS = (
    "rows",
    "rows_constant",  # all of one value, as where there is no face or no voice; these are not counted as repeats
    "rows_again",  # stand in another utterance of the split, value for value
    "rows_elsewhere",  # stand in another split
    "utterances",
    "utterances_constant",  # all rows of one value
    "utterances_again",  # equal another utterance of the split as a whole
    "utterances_elsewhere",  # equal one of another split
)
# Share of a split beyond which it is said, chosen here. The real word-aligned rows of CMU-MOSI's validation split,
# whose segments can overlap in time, have 0.6 % again; rows of other videos should never be equal.
REPEATED = 0.01
ZEROED = 0.10  # share of a split's values, chosen here: COVAREP has log(0) in a few of its 74 features
CONSTANT = 0.10  # likewise: real features have some utterances without a face or a voice

Repeats = Mapping[str, Mapping[str, Mapping[str, int]]]


def remarks(manifest: Manifest) -> list[str]:
    """What an import has found by itself, a phrase each: what repeats, what leaks (hycon.data.importers.leaks), where
    audio was not finite."""
    return [*in_words(manifest.repeats), *(manifest.leaks or ()), *_zeroed(manifest)]


def _zeroed(manifest: Manifest) -> Iterator[str]:
    """Of the split where most values of audio became 0, beyond ZEROED; nothing where rows were not counted."""
    rows = {split: counts.get("rows", 0) for split, counts in (manifest.repeats or {}).get("audio", {}).items()}
    width = manifest.dims.get("audio", 0)
    shares = {
        split: manifest.nonfinite.get(split, {}).get("audio", 0) / (count * width)
        for split, count in rows.items()
        if count * width
    }
    split = max(shares, key=lambda split: shares[split], default="")
    if split and shares[split] > ZEROED:
        yield f"{percent(shares[split])} of the {split} split's audio was -inf or NaN and became 0"


def in_words(repeats: Repeats | None) -> list[str]:
    """One phrase where a share is beyond REPEATED or CONSTANT; none otherwise, and where nothing was counted."""
    if not repeats:
        return []
    across, within = _largest(repeats, "elsewhere"), _largest(repeats, "again")
    within = {modality: found for modality, found in within.items() if modality not in across}
    said = [f"{_shares(across)} also {_stand(across)} in other splits"] if across else []
    said += [f"{_shares(within)} {_stand(within)} in several utterances"] if within else []
    said += [f"{modality} is constant in {share} of the utterances" for modality, share in _constant(repeats)]
    return [f"features repeat: {'; '.join(said)}"] if said else []


def _largest(repeats: Repeats, kind: str) -> dict[str, str]:
    """modality -> "97 % of the test split's", of the first of test, valid, train beyond REPEATED."""
    found = {}
    for modality, splits in repeats.items():
        for split in ("test", "valid", "train"):
            counts = splits.get(split, {})
            share = max(_share(counts, f"{unit}_{kind}", unit) for unit in ("rows", "utterances"))
            if share > REPEATED:
                found[modality] = f"{percent(share)} of the {split} split's"
                break
    return found


def _shares(found: Mapping[str, str]) -> str:
    """ "97 % of the test split's audio and vision": modalities of one share together."""
    alike: dict[str, list[str]] = {}
    for modality, share in found.items():
        alike.setdefault(share, []).append(modality)
    return " and ".join(f"{share} {' and '.join(modalities)}" for share, modalities in alike.items())


def _stand(found: Mapping[str, str]) -> str:
    return "stands" if len(found) == 1 else "stand"


def _constant(repeats: Repeats) -> Iterator[tuple[str, str]]:
    for modality, splits in repeats.items():
        utterances = sum(counts.get("utterances", 0) for counts in splits.values())
        share = sum(counts.get("utterances_constant", 0) for counts in splits.values()) / max(1, utterances)
        if share > CONSTANT:
            yield modality, percent(share)


def _share(counts: Mapping[str, int], part: str, whole: str) -> float:
    return counts.get(part, 0) / max(1, counts.get(whole, 0))


def percent(share: float) -> str:
    """Whole percents; never 100 % of what is not all."""
    return f"{min(round(100 * share), 100 if share >= 1 else 99)} %"
