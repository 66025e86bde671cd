"""The model of a run, built again from its specification, for whoever has its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hycon.errors import UserError, check_known
from studies.registry import MODELS, another_version, build_model, other_source
from studies.store.record import RunSpec

if TYPE_CHECKING:
    from torch import nn

    from hycon.pretrained import Shell


def build(
    raw: Mapping[str, Any], *, dims: Mapping[str, int], emotions: int, encoder: dict[str, str] | Shell | None, run: str
) -> nn.Module:
    """The model with random weights; the state of PyTorch's generators is left as it was.

    raw: a RunSpec as JSON has it.  run: its id.  Raises UserError where this suite has no such model or another version
    of it, and ValueError where `raw` is damaged or another run's.
    """
    import torch

    spec = RunSpec.from_dict(raw)
    if spec.id != run:
        raise ValueError(f"its specification is not that of run {run}")
    if spec.source and (reason := other_source(spec.model, spec.source)):
        raise UserError(f"The model cannot be used here: {reason}.")
    check_known("model", spec.model, MODELS)
    if found := another_version(spec):
        raise UserError(f"The model was made with {found}: use that of its commit.")
    with torch.random.fork_rng():
        return build_model(spec.model, text=spec.text, dims=dims, encoder=encoder, emotions=emotions, **spec.config)
