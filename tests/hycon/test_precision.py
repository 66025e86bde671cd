"""TF32: on while a run that asks for it trains and evaluates, as before afterwards, and refused where there is none."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from builders import run_spec
from commands import bench, places
from pretended_gpu import PretendedGPU
from torch import nn

from hycon.data.batch import Batch, Layout
from hycon.data.ragged import Ragged
from hycon.errors import NonFiniteLoss, UserError
from hycon.output import Output
from hycon.precision import PRECISIONS, products
from hycon.train import Training, fit, predict
from studies.engines import machine
from studies.engines.run import run
from studies.store.run_store import RunStore

SWITCHES = torch.backends.cuda.matmul, torch.backends.cudnn


def batch_of(labels):
    rows = Ragged.from_list([torch.full((1, 1), label) for label in labels])
    return Batch(rows, rows, rows, torch.tensor(labels), Layout(dict.fromkeys(("text", "audio", "vision"), 9)))


def switched():
    return tuple(switch.allow_tf32 for switch in SWITCHES)


@pytest.fixture(params=[(False, False), (True, True), (False, True)], ids=str)
def before(request):
    """What the process has, before and after: torch itself begins with (False, True)."""
    kept = switched()
    for switch, value in zip(SWITCHES, request.param, strict=True):
        switch.allow_tf32 = value
    yield request.param
    assert switched() == request.param
    for switch, value in zip(SWITCHES, kept, strict=True):
        switch.allow_tf32 = value


class Watching(nn.Module):
    """A line that notes the switches on the way there and back, and of what type its products are."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.line = nn.Linear(1, 1)
        self.factor, self.seen, self.made = factor, set(), set()

    def forward(self, batch):
        self.seen.add(("training" if self.training else "evaluation", switched()))
        out = self.line(batch.text.padded()[:, 0])[:, 0] * self.factor
        self.made.add(out.dtype)
        if out.requires_grad:
            out.register_hook(lambda grad: self.seen.add(("backward", switched())))
        return Output(out)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tf32_is_on_in_a_run_of_that_precision_alone(precision, before):
    model = Watching()
    with PretendedGPU():
        batch = batch_of([1.0, 2.0, 3.0]).to("cuda")
        fit(model.to("cuda"), batch, batch, Training(lr=0.1, epochs=2, precision=precision), seed=0)
        assert switched() == before
        predict(model, batch, precision)
    on = (precision == "tf32",) * 2
    assert model.seen == {("training", on), ("backward", on), ("evaluation", on)}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bf16_is_on_in_a_run_of_that_precision_alone(precision):
    """There, and not on the way back, whose operations are those of the way there."""
    model, batch = Watching(), batch_of([1.0, 2.0, 3.0])
    if precision != "tf32":
        fit(model, batch, batch, Training(lr=0.1, epochs=2, precision=precision), seed=0)
    predict(model, batch, precision)
    assert model.made == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert not torch.is_autocast_enabled("cpu")


def test_a_run_that_ends_in_an_error_leaves_no_tf32_behind(before):
    with PretendedGPU():
        batch = batch_of([1.0]).to("cuda")
        with pytest.raises(NonFiniteLoss):
            fit(Watching(float("nan")).to("cuda"), batch, batch, Training(lr=0.1, precision="tf32"), seed=0)


def test_a_gpu_before_ampere_has_none(monkeypatch):
    with PretendedGPU():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 0))
        batch = batch_of([1.0]).to("cuda")
        with pytest.raises(UserError, match="pretended has none"):
            fit(Watching().to("cuda"), batch, batch, Training(lr=0.1, precision="tf32"), seed=0)


def test_a_cpu_trains_nothing_in_tf32_and_evaluates_in_fp32():
    model, batch = Watching(), batch_of([1.0, 2.0])
    with pytest.raises(UserError, match=r"precision=tf32 is for GPUs, and these runs are for cpu"):
        fit(model, batch, batch, Training(lr=0.1, precision="tf32"), seed=0)
    assert torch.equal(predict(model, batch, "tf32"), predict(model, batch, "fp32"))


def test_runs_for_a_cpu_are_refused_before_anything_is_written(corpora, tmp_path):
    """As `bench verify --device cpu` asks for a run that was made on a GPU."""
    given = run_spec(corpora, precision="tf32")
    with pytest.raises(UserError, match="precision=tf32 is for GPUs"):
        run([given], RunStore(tmp_path / "results"), data_root=corpora)
    assert not (tmp_path / "results").exists()


def test_the_command_refuses_it_in_a_sentence(tmp_path, capsys):
    asked = ["run", "table1", "--profile", "demo", "--rows", "EF-LSTM-GloVe", "--set", "precision=tf32"]
    code, out, err = bench(capsys, *asked, *places(tmp_path))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "precision=tf32 is for GPUs, and these runs are for cpu: take fp32 or bf16, or a GPU." in err
    assert not (tmp_path / "results" / "runs").exists()


@pytest.mark.parametrize(
    ("cpuinfo", "executor", "code"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", "local", 0),
        ("flags\t\t: fpu avx2", "local", 2),
        ("flags\t\t: fpu avx2", "inline", 2),
        ("flags\t\t: fpu avx2", "ray", 0),  # the runs are for other machines
        ("Features\t: fp asimd", "local", 0),  # no x86: nothing is known
        (None, "local", 0),
    ],
)
def test_bf16_on_a_processor_without_it_is_refused(tmp_path, capsys, monkeypatch, cpuinfo, executor, code):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    if cpuinfo:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{cpuinfo}\n")
    asked = ["run", "table1", "--profile", "demo", "--rows", "EF-LSTM-GloVe", "--set", "precision=bf16", "--dry-run"]
    found, out, err = bench(capsys, *asked, "--executor", executor, *places(tmp_path))
    assert found == code
    if code:
        assert (out, err.count("\n")) == ("", 1)
        assert (
            "precision=bf16 is for processors that multiply bfloat16 (amx_bf16 or avx512_bf16), which this one" in err
        )
        assert not (tmp_path / "results").exists()


def test_the_precision_is_part_of_a_run_s_identity(corpora):
    ids = {p: dataclasses.replace(run_spec(corpora, precision=p), device="cuda").id for p in PRECISIONS}
    assert len(set(ids.values())) == len(PRECISIONS)
    assert ids["fp32"] == dataclasses.replace(run_spec(corpora), device="cuda").id


def test_who_looks_at_a_specification_needs_no_torch():
    code = "import sys; import hycon.precision; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_products_can_be_nested(before):
    with products("tf32"):
        with products("fp32"):
            assert switched() == (False, False)
        assert switched() == (True, True)
