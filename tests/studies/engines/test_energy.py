"""Energy counters: what a fake RAPL tells, where a counter starts anew, and that silence is not zero."""

import sys
from types import SimpleNamespace

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


class Nvml:
    """As the module pynvml is. joules: of the only GPU, None where it does not count."""

    NVMLError = type("NVMLError", (Exception,), {})

    def __init__(self, joules):
        self.joules = joules

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        assert uuid == "GPU-0a1b"
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if self.joules is None:
            raise self.NVMLError("Not Supported")
        return 1000 * self.joules


def test_a_gpus_counter(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="0a1b"))
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(2000))
    before = counters("cuda:0")
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(2035.5))
    assert joules(before, counters("cuda:0")) == pytest.approx(35.5)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(None))
    assert counters("cuda:0") == {}


def test_without_the_package_there_is_no_energy_and_no_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert counters("cuda:0") == {}


def test_what_is_not_told_is_none(rapl, tmp_path):
    assert counters("cpu") == {}
    assert joules({}, {}) is None
    rapl("intel-rapl:0", 1)
    one = counters("cpu")
    assert joules({}, one) is None
    assert joules(one, {}) is None
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("no number")
    assert counters("cpu") == {}
