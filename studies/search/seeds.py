"""Every random number starts here: a seed is the hash of what it is for.

The axes name the purpose: ("tfn", "mosi", "glove", "repeat", 3). Because the hash sees only its own axes, adding a
model or a hyper-parameter changes nobody else's draws, and neither does the order in which runs are started.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from studies.store.record import canonical

SEED_VERSION = 1  # bumping it draws everything anew; for a mistake in the scheme only

T = TypeVar("T")


def derive_seed(*axes: object) -> int:
    """A seed in [0, 2**63) from JSON-able axes. 63 bits: torch.manual_seed takes a signed 64-bit integer."""
    digest = hashlib.sha256(canonical([SEED_VERSION, *axes]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def choose(choices: Sequence[T], *axes: object) -> T:
    """One of `choices` by hash. The modulo's bias is below len(choices) / 2**63."""
    if not choices:
        raise ValueError(f"nothing to choose from for {axes}")
    return choices[derive_seed(*axes) % len(choices)]
