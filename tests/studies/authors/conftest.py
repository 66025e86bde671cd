"""Models outside the repository, and a registry that forgets them after each test."""

from pathlib import Path

import pytest

from studies.registry import MODELS

MEAN = '''"""Mean-pool: the average of each modality over time, joined (unpublished).

Deviates: none known.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from hycon.output import Output, as_prediction, outputs
from hycon.train import Training

VERSION = 1
NAME = "Mean-pool"


@dataclass(frozen=True)
class Config:
    hidden: int = 64


TRAINING = {"vectors": Training(lr=1e-3)}
SEARCH_SPACE = {"vectors": {"hidden": (32, 64), "lr": (1e-3, 2e-3)}}


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text=None, emotions: int = 0):
        super().__init__()
        self.emotions = emotions
        layers = nn.Linear(sum(dims.values()), config.hidden), nn.ReLU(), nn.Linear(config.hidden, outputs(emotions))
        self.head = nn.Sequential(*layers)

    def forward(self, batch):
        means = [sequences.mean() for sequences in (batch.text, batch.audio, batch.vision)]
        return Output(as_prediction(self.head(torch.cat(means, 1)), self.emotions))
'''


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    before = dict(MODELS)
    yield
    MODELS.clear()
    MODELS.update(before)


@pytest.fixture
def written(tmp_path):
    """(change, ...) -> the file of a model in which each (old, new) is changed."""

    def write(*changes: tuple[str, str], name: str = "mean_pool.py") -> Path:
        text = MEAN
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write
