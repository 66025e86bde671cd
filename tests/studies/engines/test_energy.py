"""Energy counters: what a fake RAPL tells, where a counter starts anew, and that silence is not zero."""

import pytest

from studies.engines import energy
from studies.engines.energy import counters, joules


@pytest.fixture
def rapl(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "RAPL", tmp_path)

    def put(name, microjoules, limit=262_143_000_000):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "energy_uj").write_text(f"{microjoules}\n")
        (tmp_path / name / "max_energy_range_uj").write_text(f"{limit}\n")

    return put


def test_packages_are_added_and_their_parts_are_not(rapl):
    rapl("intel-rapl:0", 5_000_000)
    rapl("intel-rapl:1", 1_000_000)
    rapl("intel-rapl:0:0", 4_000_000)
    before = counters("cpu")
    assert set(before) == {"intel-rapl:0", "intel-rapl:1"}
    rapl("intel-rapl:0", 8_500_000)
    rapl("intel-rapl:1", 1_250_000)
    rapl("intel-rapl:0:0", 9_000_000)
    assert joules(before, counters("cpu")) == pytest.approx(3.5 + 0.25)


def test_a_counter_that_started_anew(rapl):
    rapl("intel-rapl:0", 262_142_000_000)
    before = counters("cpu")
    rapl("intel-rapl:0", 2_000_000)
    assert joules(before, counters("cpu")) == pytest.approx(3.0)


def test_what_is_not_told_is_none(rapl, tmp_path):
    assert counters("cpu") == {}
    assert joules({}, {}) is None
    rapl("intel-rapl:0", 1)
    one = counters("cpu")
    assert joules({}, one) is None
    assert joules(one, {}) is None
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("no number")
    assert counters("cpu") == {}
