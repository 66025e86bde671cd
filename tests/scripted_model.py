"""A model whose validation loss in each epoch is written down beforehand."""

import torch
from torch import nn

from hycon.output import Output


class Scripted(nn.Module):
    """Predicts script[epoch] for every utterance in evaluation; one training batch is one epoch."""

    def __init__(self, script):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))
        self.script = torch.tensor(script)

    def forward(self, batch):
        if self.training:
            self.epoch += 1
            return Output(self.weight.expand(len(batch)))
        return Output(self.script[self.epoch - 1].expand(len(batch)))
