"""The conditions under which the test split is measured again for robustness: what is missing, dropped or noisy.

    missing_audio, missing_audio_vision    each modality, and each pair, is missing
    dropped_text_0.3                       0.3 of each utterance's words lose a modality
    noise_vision_0.5                       Gaussian noise of half each feature's standard deviation

What is done to a batch under each is in hycon.data.robustness. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from hycon.data.manifest import MODALITIES

DRAWS = 1  # bumped by any change of what a condition does, or of its draws: runs are then measured anew
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of words dropped; with intact and missing a curve from 0 to 1
LEVELS = (0.25, 0.5, 1.0, 2.0)  # of noise, in standard deviations over the train split; chosen here
NOISY = ("audio", "vision")  # text is words: it has no noise of this kind


@dataclass(frozen=True)
class Condition:
    """kind: "missing" | "dropped" | "noise".  modalities: those that it is done to.
    amount: the share that is dropped, or the noise's level; of what is missing 1."""

    kind: str
    modalities: tuple[str, ...]
    amount: float = 1.0

    @property
    def name(self) -> str:
        parts = [self.kind, *self.modalities]
        return "_".join(parts if self.kind == "missing" else [*parts, f"{self.amount:g}"])


CONDITIONS = (
    *(Condition("missing", gone) for many in (1, 2) for gone in combinations(MODALITIES, many)),
    *(Condition("dropped", (modality,), share) for modality in MODALITIES for share in SHARES),
    *(Condition("noise", (modality,), level) for modality in NOISY for level in LEVELS),
)


def dropping(modality: str) -> dict[float, str]:
    """Share of words without the modality, from 0.1 to 1 -> the condition's name. At 0 all is intact."""
    return {
        condition.amount: condition.name
        for condition in sorted(CONDITIONS, key=lambda condition: condition.amount)
        if condition.modalities == (modality,) and condition.kind != "noise"
    }
