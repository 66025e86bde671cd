"""Claims and figures have tests of their own and take their time: the reports of these tests go without."""

import pytest

from studies.document.blocks import Section
from studies.report import claims as evidence


@pytest.fixture(autouse=True)
def no_evidence(monkeypatch):
    monkeypatch.setattr(evidence, "evaluated", lambda scope: [])
    monkeypatch.setattr(evidence, "own_evaluated", lambda scope: [])
    monkeypatch.setattr(evidence, "paper_against_itself", lambda: Section("paper", "The paper against itself", ()))
    monkeypatch.setattr(evidence, "figures", lambda scope: Section("figures", "Figures", ()))
