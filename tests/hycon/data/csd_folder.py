"""A folder of computational sequences as the CMU-MultimodalSDK writes them, one video of each standard fold of MOSI."""

from __future__ import annotations

from pathlib import Path

import numpy as np

METADATA = (
    "computational sequence description", "computational sequence version", "alignment compatible", "dataset name",
    "dataset version", "creator", "contact", "featureset bib citation", "dataset bib citation",
)  # fmt: skip
# One video of each standard fold of MOSI.
VIDEOS = {"train": "2iD-tVS8NPw", "valid": "WKA5OygbEKI", "test": "tmZoasNr4rU"}
# Seconds of each word; "sp" is silence. Segments: words 0-1, words 3-4.
WORDS = [("hello", 0.0, 0.5), ("there", 0.5, 1.0), ("sp", 1.0, 1.5), ("good", 2.0, 2.4), ("bye", 2.4, 3.0)]
SEGMENTS = [(0.0, 1.0, 2.5), (1.8, 3.1, -1.5)]


def write_csd(path: Path, title: str, data: dict[str, tuple], dataset: str = '"CMU-MOSI"') -> Path:
    import h5py

    with h5py.File(path, "w") as handle:
        root = handle.create_group(title)
        for video, (intervals, features) in data.items():
            group = (
                root.create_group("data").create_group(video)
                if "data" not in root
                else root["data"].create_group(video)
            )
            group.create_dataset("intervals", data=np.asarray(intervals, dtype=np.float32))
            group.create_dataset("features", data=features)
        metadata = root.create_group("metadata")
        for key in ("root name", *METADATA):
            value = {"root name": f'"{title}"', "dataset name": dataset}.get(key, "x")
            metadata.create_dataset(key, data=np.array([value.encode()], dtype=h5py.string_dtype()))
    return path


def frames(rate: float, width: int, base: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames of 1/rate s from 0 to 3 s; frame k holds base + k + 0.5 * column, so that columns differ."""
    starts = np.arange(0, 3, 1 / rate)
    intervals = np.stack([starts, starts + 1 / rate], 1)
    return intervals, (base + np.arange(len(starts))[:, None] + 0.5 * np.arange(width)).astype(np.float32)


def folder_of(path: Path, skip: str = "", **changes) -> Path:
    path.mkdir()
    videos = {v: 1000.0 * k for k, v in enumerate((*VIDEOS.values(), "unknown_video"))}
    words = ([w[1:] for w in WORDS], np.array([[w[0].encode()] for w in WORDS]))
    labels = ([s[:2] for s in SEGMENTS], np.array([[s[2]] for s in SEGMENTS], dtype=np.float32))
    sequences = {
        "words": {v: words for v in videos},
        "COVAREP": {v: frames(20, 74, base) for v, base in videos.items()},
        "FACET 4.1": {v: frames(10, 47, -base) for v, base in videos.items()},
        "Opinion Segment Labels": {v: labels for v in videos},
        "glove_vectors": {v: (words[0], np.zeros((len(WORDS), 300))) for v in videos},
        "phones": {v: words for v in videos},
    }
    for title, data in sequences.items():
        if title != skip:
            data = changes.get(title.split(" ")[0], lambda d: d)(dict(data))
            write_csd(path / f"{title.replace(' ', '_')}.csd", title, data)
    return path
