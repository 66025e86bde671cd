"""What a text encoder has made of the same words, remembered.

Of the 41 conditions of robustness 29 leave the text as it is, and the encoder is most of what a prediction costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from hycon.data.ragged import Ragged
from hycon.text import PretrainedText

LARGEST = 256 << 20  # bytes of all that is remembered; beyond them it is computed again; chosen here

Remembered = dict[tuple[Any, ...], Tensor]


@contextmanager
def text_remembered(model: nn.Module, memory: Remembered) -> Iterator[None]:
    """Within it, the text encoders of `model` give the same bits, and compute only what is not in `memory`.

    For predictions without gradient, of one set of weights and one precision. What is injected between the encoder's
    layers (MAG) depends on audio and vision, and is never remembered.
    """
    encoders = [module for module in model.modules() if isinstance(module, PretrainedText)]
    for number, encoder in enumerate(encoders):
        for name in ("states", "windows"):
            setattr(encoder, name, _remembering(getattr(encoder, name), (number, name), memory))
    try:
        yield
    finally:
        for encoder in encoders:
            del encoder.states, encoder.windows  # those of the instance: the class has its own


def _remembering(compute: Callable[..., Tensor], which: tuple[int, str], memory: Remembered) -> Callable[..., Tensor]:
    def look_up(text: Ragged, *how: Any, **named: Any) -> Tensor:
        if any(map(callable, (*how, *named.values()))):
            return compute(text, *how, **named)
        words = text.padded().cpu().numpy().tobytes(), text.lengths.numpy().tobytes()
        key = (*which, *words, how, tuple(sorted(named.items())))
        if key not in memory:
            found = compute(text, *how, **named)
            if sum(map(_size, memory.values())) + _size(found) > LARGEST:
                return found
            memory[key] = found
        return memory[key].clone()  # a model may write into it

    return look_up


def _size(x: Tensor) -> int:
    return x.numel() * x.element_size()
