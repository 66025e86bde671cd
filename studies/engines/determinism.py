"""What PyTorch warns of operations that may give other bits when a run is repeated, for the run's record."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

WORD = "deterministic"  # in all of these warnings, as of PyTorch 2.13
NOTE = "equal bits are not assured when this is run again (PyTorch: {})"


@contextmanager
def warnings_noted(device: str) -> Iterator[list[str]]:
    """Gives a list to which each such warning is added once, as a note; it is shown all the same.

    `hycon.train.seed_everything` has PyTorch refuse what it knows not to be deterministic; this is for what it still
    only warns of.
    """
    import torch

    notes: list[str] = []
    always = torch.is_warn_always_enabled()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=f"(?s:.*){WORD}")
        show = warnings.showwarning

        def noted(message: Warning | str, *rest, **named) -> None:
            note = NOTE.format(_first_sentence(str(message)))
            if WORD in str(message).lower() and note not in notes:
                notes.append(note)
            show(message, *rest, **named)

        warnings.showwarning = noted
        if torch.device(device).type == "cuda":
            torch.set_warn_always(True)  # some are given once a process, which may have had a run before
        try:
            yield notes
        finally:
            torch.set_warn_always(always)


def _first_sentence(said: str) -> str:
    return re.split(r"\.\s|\.$|\(Triggered", " ".join(said.split()))[0].strip()
