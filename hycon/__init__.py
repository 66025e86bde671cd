"""HyCon: hybrid contrastive learning of tri-modal representation (Mai et al., IEEE TAFFC 2022). One model, one run."""

from typing import Any

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    """`load_model` when first asked for: it needs torch, which commands that only list do not."""
    if name == "load_model":
        from hycon.predict import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
