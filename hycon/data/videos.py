"""Which utterances share a video, for models that read an utterance in the context of its video (HFFN).

An utterance's id names its video and its place in it: "video[k]" (CMU-MultimodalSDK, MAG-BERT, MulT), "video$_$k"
(MMSA), "video_k". Ids of any other form stand for a video of one utterance, and so do numbers that name no video: those
behind the name of a split ("train_17", as an importer numbers utterances whose source had no ids), and those of a split
whose ids all begin alike ("utt_0", "utt_1", ...). Such a corpus has no video context, and a model that wants it sees
each utterance alone.
"""

from __future__ import annotations

import re

FORMS = (r"(.+)\[(\d+)\]", r"(.+)\$_\$(\d+)", r"(.+)_(\d+)")
SPLIT_NAMES = ("train", "valid", "val", "dev", "test")


def video_of(id: str) -> tuple[str, int]:
    """("video", k) of an utterance id; (id, 0) where it names no video."""
    for form in FORMS:
        found = re.fullmatch(form, id)
        if found and found[1].lower() not in SPLIT_NAMES:
            return found[1], int(found[2])
    return id, 0
