"""hycon/losses.py against the slow transcription of the paper (hycon_losses.py), for drawn batches and every option.

Examples are the same each time. ORACLE_EXAMPLES=2000 draws more of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import hycon_losses as oracle

from hycon import losses
from hycon.losses import CHOICES, HybridConfig, hybrid_loss
from hycon.output import task_loss
from hycon.pairs import ZEROS, emotion_classes, sentiment_classes

EXAMPLES = int(os.environ.get("ORACLE_EXAMPLES", "60"))  # of each test
MODALITIES = ("text", "audio", "vision")
TOLERANCE = 1e-9
DRAWN = ("classical", "triplet", "n-pair")  # with random pairs
examples = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)


@dataclass(frozen=True)
class Batch:
    """x: modality -> (K, d) float64, all three; `modalities` take part.  classes: of the K samples.  twins: two
    samples of the same representations, so that the selected pair is not unique and gradients may differ."""

    x: dict[str, torch.Tensor]
    classes: list[int]
    modalities: tuple[str, ...]
    twins: bool


@st.composite
def class_lists(draw, samples: int) -> list[int]:
    """One class, all distinct, or any mixture of few; some samples in none."""
    kind = draw(st.sampled_from(["one", "distinct", "mixed", "mixed", "excluded"]))
    if kind in ("one", "distinct"):
        return [0] * samples if kind == "one" else list(range(samples))
    lowest = -1 if kind == "excluded" else 0
    return draw(st.lists(st.integers(lowest, 2), min_size=samples, max_size=samples))


@st.composite
def batches(draw) -> Batch:
    samples = draw(st.integers(1, 9))
    features = draw(st.integers(1, 6))
    scale = draw(st.sampled_from([0.1, 1.0, 3.0]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    x = {m: scale * torch.randn(samples, features, dtype=torch.float64, generator=generator) for m in MODALITIES}
    twins = samples > 1 and draw(st.sampled_from([False, False, False, True]))
    if twins:
        for representations in x.values():
            representations[-1] = representations[0]
    modalities = draw(st.sampled_from([MODALITIES, MODALITIES, ("text", "audio"), ("vision", "text"), ("audio",)]))
    return Batch(x, draw(class_lists(samples)), modalities, twins)


LAMBDA = st.sampled_from([1.0, 0.0, 0.3])
COMMON = {
    "iamcl": LAMBDA,
    "iemcl": LAMBDA,
    "scl": LAMBDA,
    "margin": st.sampled_from([0.8, 0.0, 0.5, 1.0]),
    "refinement": st.booleans(),
    "reduction": st.sampled_from(CHOICES["reduction"]),
    "log": st.booleans(),
    "hinge": st.booleans(),
}
ALL_PAIRS = st.builds(HybridConfig, **COMMON)
SELECTED = st.builds(
    HybridConfig,
    **COMMON,
    beta=st.sampled_from([0.2, 0.1, 0.4, 0.7, 1.0]),
    gamma=st.sampled_from([1.0, 0.1, 0.01, 3.0]),
    select_positives=st.sampled_from([True, True, False]),
    select_negatives=st.sampled_from([True, True, False]),
    h_inter=st.sampled_from(CHOICES["h_inter"]),
    weighted_refinement=st.sampled_from(CHOICES["weighted_refinement"]),
)


class Drawn:
    """Records which pairs `hycon.losses` draws at random, and tells the oracle."""

    def __init__(self, batch: Batch, monkeypatch: pytest.MonkeyPatch):
        self.batch, self.calls, real = batch, [], losses.random_pair

        def recorded(similarity, mask, generator=None):
            weight = real(similarity, mask, generator)
            self.calls.append((similarity.detach(), weight.detach().expand_as(similarity)))
            return weight

        monkeypatch.setattr(losses, "random_pair", recorded)

    def __call__(self, anchor: oracle.Candidate, pairs: list[oracle.Candidate]) -> oracle.Candidate:
        """The one of `pairs` that was drawn: of the same sample and the same similarity to the anchor."""
        vectors = oracle.softmaxed(self.batch.x, self.batch.modalities)
        row, i = self.batch.modalities.index(anchor[0]), anchor[1]
        for similarity, weight in self.calls:
            (chosen,) = weight[row, i].nonzero().tolist() or [[None, None]]
            if chosen[0] is None:
                continue
            assert weight[row, i].sum() == 1
            score = similarity[row, i][tuple(chosen)]
            for pair in pairs:
                if pair[1] == chosen[1] and abs(vectors[anchor] @ vectors[pair] - score) < 1e-12:
                    return pair
        raise AssertionError(f"nothing was drawn for {anchor} among {pairs}")


def compare(batch: Batch, config: HybridConfig, draw: oracle.Draw) -> None:
    """Each part and the total within 1e-9, and the gradient of each with respect to each representation."""
    found = hybrid_of(batch, config)
    expected = oracle.hybrid(batch.x, batch.classes, batch.modalities, config, draw)
    for name in oracle.Losses._fields:
        ours, theirs = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE, msg=lambda t, n=name: f"{n}: {t}")
        if not batch.twins:
            for m, ours_m, theirs_m in zip(MODALITIES, gradient(ours, batch), gradient(theirs, batch), strict=True):
                where = f"gradient of {name} by {m}"
                torch.testing.assert_close(
                    ours_m, theirs_m, atol=TOLERANCE, rtol=TOLERANCE, msg=lambda t, w=where: f"{w}: {t}"
                )


def hybrid_of(batch: Batch, config: HybridConfig):
    for representations in batch.x.values():
        representations.requires_grad_()
    generator = torch.Generator().manual_seed(len(batch.classes))
    return hybrid_loss(batch.x, torch.tensor(batch.classes), config, generator, batch.modalities)


def gradient(value: torch.Tensor, batch: Batch) -> list[torch.Tensor]:
    """By each of the three representations; zeros where it does not depend on one."""
    inputs = list(batch.x.values())
    if not value.requires_grad:
        return [torch.zeros_like(x) for x in inputs]
    found = torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


def nothing_drawn(anchor: oracle.Candidate, pairs: list[oracle.Candidate]) -> oracle.Candidate:
    raise AssertionError("no pair of these losses is random")


@given(batches(), ALL_PAIRS)
@examples
def test_hycon(batch: Batch, config: HybridConfig) -> None:
    compare(batch, config, nothing_drawn)


@given(batches(), SELECTED)
@examples
def test_hycon_v2(batch: Batch, config: HybridConfig) -> None:
    compare(batch, config, nothing_drawn)


@pytest.mark.parametrize("contrastive", DRAWN)
@given(batch=batches(), options=st.fixed_dictionaries(COMMON))
@settings(examples, max_examples=EXAMPLES // 2)
def test_table_7(contrastive: str, batch: Batch, options: dict) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        drawn = Drawn(batch, monkeypatch)
        compare(batch, HybridConfig(**options, contrastive=contrastive), drawn)


@given(batches(), st.fixed_dictionaries(COMMON))
@settings(examples, max_examples=EXAMPLES // 2)
def test_hard_triplet(batch: Batch, options: dict) -> None:
    compare(batch, HybridConfig(**options, contrastive="hard-triplet"), nothing_drawn)


def test_every_option_is_drawn() -> None:
    """A field that HybridConfig gains must be transcribed and drawn too."""
    drawn = {*COMMON, "beta", "gamma", "select_positives", "select_negatives", "h_inter", "weighted_refinement"}
    assert drawn | {"contrastive"} == set(HybridConfig.__dataclass_fields__)
    assert set(CHOICES["contrastive"]) == {"hycon", "hard-triplet", *DRAWN}


@given(st.lists(st.sampled_from([-3.0, -0.2, -0.0, 0.0, 1e-9, 0.4, 3.0]), min_size=1, max_size=9))
@examples
def test_sentiment_classes_are_a3(labels: list[float]) -> None:
    for zero in ZEROS:
        expected = [oracle.sentiment_class(label, zero) for label in labels]
        assert sentiment_classes(torch.tensor(labels), zero).tolist() == expected


@given(st.lists(st.tuples(*[st.integers(0, 1)] * 4), min_size=1, max_size=9))
@examples
def test_emotion_classes_are_a17(labels: list[tuple[int, ...]]) -> None:
    classes = emotion_classes(torch.tensor(labels)).tolist()
    for a, class_a in zip(labels, classes, strict=True):
        for b, class_b in zip(labels, classes, strict=True):
            assert (class_a == class_b) is oracle.same_emotion_class(a, b), (a, b)


@given(st.integers(1, 9), st.integers(0, 2**32))
@examples
def test_task_loss_is_eq_2_and_a18(samples: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    prediction = 3 * torch.randn(samples, generator=generator)
    label = torch.randint(-3, 4, (samples,), generator=generator).float()
    expected = oracle.sentiment_loss(prediction.double(), label.tolist())
    torch.testing.assert_close(task_loss(prediction, label).double(), expected, atol=1e-5, rtol=0)
    logits = torch.randn(samples, 4, 2, generator=generator)
    present = torch.randint(0, 2, (samples, 4), generator=generator)
    expected = oracle.emotion_loss(logits.double(), present.tolist())
    torch.testing.assert_close(task_loss(logits, present).double(), expected, atol=1e-5, rtol=0)
