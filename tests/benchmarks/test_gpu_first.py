"""benchmarks/gpu_first.py without a GPU: all of it in small on the CPU, and what it does when something goes wrong."""

import argparse
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # scripts, not a package
import gpu_first  # noqa: E402
from gpu_page import latest, page  # noqa: E402

SETTING = {"step": "setting", "device": "NVIDIA H200", "quick": False, "torch": "2.13"}
SECTIONS = [
    "## Against the CPU",
    "## The same bits",
    "## From a process's start to its first training step",
    "## Speed",
    "## Several runs at a time",
    "## Table 1: 1,210 runs on this device",
    "## Failed or left out",
]


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "gpu_first.jsonl"
    gpu_first.append(path, SETTING)
    return path


def doing(name, code, seconds=20.0):
    """A step that runs `code`, with the options that every step gets in `sys.argv`."""
    return gpu_first.Step(name, seconds, (sys.executable, "-c", code))


def carried_out(journal, *chosen, seconds=60.0):
    gpu_first.run(chosen, journal, [], time.monotonic() + seconds)
    return [row for row in gpu_first.read(journal) if "took" not in row and row["step"] != "setting"]


def measured(name, value=1):
    row = json.dumps({"step": name, "v": value}) + "\n"
    return f"open(sys.argv[sys.argv.index('--journal') + 1], 'a').write({row!r})"


@pytest.mark.timeout(900)  # it takes a minute of two processors, which others may want too
def test_everything_in_small_on_the_cpu(tmp_path):
    command = [sys.executable, BENCHMARKS / "gpu_first.py", "--device", "cpu", "--quick", "--minutes", "12"]
    done = subprocess.run([*command, "--out", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + (tmp_path / "gpu_first.log").read_text()
    rows = gpu_first.read(tmp_path / "gpu_first.jsonl")
    assert [row for row in rows if row.keys() & {"failed", "skipped"}] == []
    assert [row["step"] for row in rows if "took" in row] == [step.name for step in gpu_first.steps()]
    of = {step.name: [r for r in rows if r["step"] == step.name and "item" in r] for step in gpu_first.steps()}
    assert len(of["conformance"]) >= 10
    assert all(row["passed"] for row in of["conformance"])
    assert len(of["bits"]) >= 5
    assert all(row["equal"] for row in of["bits"])
    assert {row["variant"] for row in of["speed"]} == {"eager, padded, fp32", "fp32", "tf32", "bf16"}
    assert all(row["seconds_per_epoch"] > 0 for row in of["speed"])
    windows = [(row["precision"], row["processes"]) for row in of["together"] if "processes" in row]
    assert windows == [(precision, count) for count in (1, 2) for precision in ("fp32", "tf32", "bf16")]
    assert all(row["epochs_per_second"] > 0 for row in of["together"] if "processes" in row)
    assert all(set(row["parts"]) >= {"imports", "context", "first step"} for row in of["start"])
    text = (tmp_path / "cpu.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == SECTIONS
    assert "MPS: not available: it is for GPUs." in text
    assert text.endswith("## Failed or left out\n\nNothing.\n")


def test_a_step_beyond_its_limit_is_killed_and_named_and_the_next_goes_on(journal, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_first, "LEAST", 0.1)
    monkeypatch.setattr(gpu_first, "GRACE", 0.5)
    deaf = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    deaf += f"import os; from pathlib import Path; Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())); "
    deaf += "Path(sys.argv[sys.argv.index('--scratch') + 1], 'item').write_text('mfn'); "
    rows = carried_out(
        journal,
        doing("speed", deaf + measured("speed") + "; time.sleep(60)", seconds=2),
        doing("start", "import sys; " + measured("start", 2)),
    )
    assert rows == [
        {"step": "speed", "v": 1},
        {"step": "speed", "item": "mfn", "failed": "killed at its limit of 2 s, in mfn"},
        {"step": "start", "v": 2},
    ]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_step_that_there_is_no_time_for_is_named(journal):
    rows = carried_out(journal, doing("bits", "raise SystemExit(1)"), seconds=2)
    assert rows == [{"step": "bits", "skipped": "2 s were left"}]


def test_a_process_that_ends_in_an_item_is_named_and_started_again_behind_it(journal):
    code = f"""
import os, sys
sys.path.insert(0, {str(BENCHMARKS)!r})
from pathlib import Path
from gpu_first import append, read
path = Path(sys.argv[sys.argv.index("--journal") + 1])
scratch = Path(sys.argv[sys.argv.index("--scratch") + 1])
for item in ("one", "two", "three"):
    if item in [row.get("item") for row in read(path)]:
        continue
    (scratch / "item").write_text(item)
    if item == "two":
        os.kill(os.getpid(), 11)
    append(path, {{"step": "bits", "item": item}})
"""
    assert carried_out(journal, doing("bits", code)) == [
        {"step": "bits", "item": "one"},
        {"step": "bits", "item": "two", "failed": "the process was ended by SIGSEGV"},
        {"step": "bits", "item": "three"},
    ]


def test_a_step_that_raises_before_its_first_item_is_one_line(journal, capsys):
    rows = carried_out(journal, doing("bits", "raise ImportError('no such thing')"))
    assert rows == [
        {"step": "bits", "failed": "the process ended with exit code 1: ImportError: no such thing"},
    ]
    assert capsys.readouterr().err.endswith("exit code 1: ImportError: no such thing\n")
    assert gpu_first.report(journal) == 1


def test_an_item_that_raises_is_a_row_and_the_next_goes_on(journal, tmp_path):
    import gpu_steps

    def broken():
        yield {"seconds": 1}
        raise ValueError("no\nkernel")

    options = argparse.Namespace(journal=journal, scratch=tmp_path, device="cpu", deadline=time.monotonic() + 60)
    items = [("first", broken), ("second", lambda: [{"seconds": 2}])]
    gpu_steps.carry_out("speed", items, options)
    options.deadline = time.monotonic() + 1
    gpu_steps.carry_out("speed", [*items, ("third", broken)], options)
    assert gpu_first.read(journal)[1:] == [
        {"step": "speed", "item": "first", "seconds": 1},
        {"step": "speed", "item": "first", "failed": "ValueError: no kernel"},
        {"step": "speed", "item": "second", "seconds": 2},
        {"step": "speed", "item": "third", "skipped": "no time was left"},
    ]


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ([{"item": "a", "weights": "1"}, {"item": "b", "weights": "2"}], [{"equal": True}]),
        ([{"item": "b", "weights": "3"}], [{"equal": False}]),
        ([{"item": "b", "failed": "ValueError: no"}], "in the twin process: ValueError: no"),
        ([{"item": "a", "weights": "2"}], "the twin process has ended"),
    ],
)
def test_bits_are_equal_where_both_processes_say_the_same_of_a_row(told, found):
    import gpu_steps

    twin = argparse.Namespace(stdout=io.StringIO("".join(json.dumps(row) + "\n" for row in told)))
    compared = gpu_steps.compared("b", lambda: [{"weights": "2"}], twin)
    if isinstance(found, str):
        with pytest.raises(ChildProcessError, match=found):
            list(compared)
    else:
        assert [{"equal": row["equal"]} for row in compared] == found


def test_a_gradient_that_differs_does_not_pass(monkeypatch):
    import gpu_steps

    options = argparse.Namespace(device="cpu")
    assert gpu_steps.conformance("ef_lstm", "glove", 0, options)["passed"]
    sound, calls = gpu_steps.loss_of, []

    def twice_as_large_on_the_device(net, batch):
        calls.append(net)
        return sound(net, batch) * len(calls)

    monkeypatch.setattr(gpu_steps, "loss_of", twice_as_large_on_the_device)
    row = gpu_steps.conformance("ef_lstm", "glove", 0, options)
    assert not row["passed"]
    assert row["gradient"] == pytest.approx(1.0, rel=1e-3)
    assert row["prediction"] == 0


def test_units_a_second_in_a_window():
    from gpu_together import rate

    marks = [0.5, 1.0, 1.5, 2.0, 2.5, 9.0]
    assert rate(marks, 0.9, 2.2) == 2.0  # two units between the first and the last mark inside
    assert rate(marks, 2.1, 3.1) == 1.0  # one mark says no more
    assert rate(marks, 4.0, 6.0) == 0.0


def test_interrupted_it_ends_what_it_started_and_writes_the_page(tmp_path):
    command = [sys.executable, BENCHMARKS / "gpu_first.py", "--device", "cpu", "--quick", "--steps", "bits"]
    started = subprocess.Popen([*command, "--out", tmp_path], stdout=subprocess.PIPE, text=True)
    journal = tmp_path / "gpu_first.jsonl"
    deadline = time.monotonic() + 120
    while not (journal.exists() and '"equal"' in journal.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    started.send_signal(signal.SIGTERM)
    said, _ = started.communicate(timeout=60)
    assert started.returncode == 130
    assert said.strip() == str(tmp_path / "cpu.md")
    assert "- end: failed: interrupted" in (tmp_path / "cpu.md").read_text()
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(journal) not in running


def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path):
    command = [sys.executable, BENCHMARKS / "gpu_first.py", "--out", tmp_path / "results"]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=hidden)
    assert done.returncode == 2
    assert done.stderr.startswith("No device 'cuda' here (")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_an_unknown_step_is_refused_by_name(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu_first.py", "--steps", "speed,bit"])
    with pytest.raises(SystemExit, match="2"):
        gpu_first.main()
    assert "unknown step 'bit'; the steps are conformance, bits, start, speed, together" in capsys.readouterr().err


@pytest.mark.parametrize(("model", "text"), [("mag", "bert"), ("mag", "xlnet"), ("mult", "bert")])
def test_padded_as_the_field_does_it_the_real_positions_are_the_same(model, text):
    """The baseline's encoder. HyCon's reads a [PAD], in whose place the baseline has a zero: as much work."""
    import torch
    from gpu_training import QUICK, made_up, network, pad_encoder

    from hycon.train import predict

    split = made_up(text, QUICK, 9)
    torch.manual_seed(0)
    net = network(model, text, QUICK)
    before = predict(net, split)
    pad_encoder(net, QUICK.lengths["text"])
    assert before.std() > 1e-4
    torch.testing.assert_close(predict(net, split), before, atol=1e-6, rtol=1e-4)


def test_model_flops_of_word_vectors_are_counted():
    """LF-LSTM: 6 FLOPs a weight and real step, 4 where the input needs no gradient."""
    from gpu_measure import flops
    from gpu_training import QUICK, made_up, network, training_of

    net = network("lf_lstm", "glove", QUICK)
    found = flops("lf_lstm", "glove", QUICK, net, training_of("lf_lstm", "glove", QUICK))
    few = made_up("glove", QUICK, QUICK.train).slice(0, 8)
    steps = int(few.text.lengths.sum())
    inputs = sum(p.numel() for n, p in net.named_parameters() if "weight_ih" in n)
    states = sum(p.numel() for n, p in net.named_parameters() if "weight_hh" in n)
    lstms = (4 * inputs + 6 * states) * steps / 8 * (QUICK.train + QUICK.valid / 3)
    assert found == pytest.approx(lstms, rel=0.15)  # a first step has no state before it; the head is small


# ------------------------------------------------------------------------------------------------- the page


def speed(row, variant, seconds, **more):
    own = {"seconds_per_epoch": seconds, "fastest": seconds, "slowest": seconds, "share": 1.0}
    own |= {"tflop_per_second": 1.0, "mfu": 0.25}
    return {"step": "speed", "item": f"{row}, {variant}", "row": row, "variant": variant, **own, **more}


def test_report_makes_the_page_again(journal, capsys):
    for row in (
        speed("HyCon-BERT", "eager, padded, fp32", 2.0, reserved_mib=5000.0),
        speed("HyCon-BERT", "fp32", 0.5, share=0.5),
        {
            "step": "speed",
            "item": "HyCon-BERT, fp32",
            "row": "HyCon-BERT",
            "variant": "fp32",
            "kernels_per_step": 1550.0,
        },
        {"step": "together", "mps": "no", "processes": 1, "epochs_per_second": 2.0, "each": [2.0]},
        {"step": "together", "mps": "yes", "processes": 4, "epochs_per_second": 5.0, "each": [1.25] * 4, "servers": 0},
        {
            "step": "start",
            "item": "HyCon-BERT",
            "process": 1,
            "seconds": 6.0,
            "parts": {"python": 1.0, "imports": 3.0, "context": 0.5, "first step": 0.7},
        },
    ):
        gpu_first.append(journal, row)
    with journal.open("a") as out:
        out.write('{"step": "bits", "equ')  # a kill cut it
    assert gpu_first.report(journal) == 0
    path = journal.with_name("nvidia-h200.md")
    assert capsys.readouterr().out == f"{path}\n"
    lines = path.read_text().splitlines()
    assert (
        "| HyCon-BERT | fp32 | 0.5 (0.5 to 0.5)* | 4.00 | 1,550 | not measured | not measured | 1 | 25.00 % "
        "| not measured | not measured |"
    ) in lines
    assert "| yes | fp32 | 4 | 300 | 2.50 | 75 to 75 |" in lines
    assert "MPS's daemon named no server: whether these processes ran under it is not sure." in lines
    # 55 x 22 x (25 epochs x 0.5 s + 2 s) and, in kept workers, 55 x 22 x (25 x 0.5 / 2.5 + 0.8 / 4), in hours
    assert "| fp32 | 4.87 | 1.75 | 4, MPS: yes | 2.50 times |" in lines
    assert "| bf16 | not measured | not measured | not measured | not measured |" in lines


def test_each_variant_has_its_own_gain_from_several_at_a_time():
    def together(precision, mps, count, every):
        row = {"step": "together", "mps": mps, "processes": count, "epochs_per_second": every}
        return {**row, "precision": precision, "each": [every / count] * count}

    rows = [speed("HyCon-BERT", variant, 1.0) for variant in ("eager, padded, fp32", "fp32", "tf32", "bf16")]
    rows += [together("fp32", "no", 1, 1.0), together("tf32", "no", 1, 2.0), together("fp32", "yes", 4, 1.5)]
    rows += [together("tf32", "yes", 8, 8.0), together("tf32", "yes", 16, 7.0), together("bf16", "yes", 16, 9.0)]
    lines = page([SETTING, *rows]).splitlines()
    # 55 x 22 runs x 25 epochs of a second, in hours: 8.40
    assert "| eager, padded, fp32 | 8.4 | 5.6 | 4, MPS: yes | 1.50 times |" in lines
    assert "| fp32 | 8.4 | 5.6 | 4, MPS: yes | 1.50 times |" in lines
    assert "| tf32 | 8.4 | 2.1 | 8, MPS: yes | 4.00 times |" in lines
    assert "| bf16 | 8.4 | 5.6 | 4, MPS: yes, as in fp32 | 1.50 times |" in lines  # one alone was not measured


def test_the_windows_of_step_together_fit_its_time_and_the_memory(journal):
    from gpu_together import most_at_a_time, planned, schedule

    assert most_at_a_time(journal) == 16  # a setting without a word of memory
    for memory, most in ((143156.0, 16), (81559.0, 15), (40960.0, 7)):
        gpu_first.append(journal, {**SETTING, "memory_mib": memory})
        chosen = planned(False, True, most_at_a_time(journal))
        assert max(chosen, key=lambda one: one[1]) == ("fp32", most)
    chosen = planned(False, True, 16)
    assert chosen == [(p, count) for count in (1, 4, 8, 16) for p in ("fp32", "tf32", "bf16")]
    plan = schedule(chosen, 100.0)
    assert plan[-1]["to"] - 100.0 < 42  # and 20 s or so to get ready, and 25 s for those without MPS
    for before, after in itertools.pairwise(plan):
        assert after["from"] - after["lead"] == before["to"]


def test_of_several_calls_each_step_s_last_that_measured_something_counts():
    first = [SETTING, speed("HyCon-BERT", "fp32", 1.0), {"step": "bits", "item": "a", "equal": True}]
    second = [SETTING, speed("HyCon-BERT", "fp32", 3.0), {"step": "bits", "skipped": "0 s were left"}]
    other = [{**SETTING, "device": "NVIDIA A100"}, speed("HyCon-BERT", "fp32", 9.0)]
    found = latest([*first, *other, *second])
    assert [row.get("seconds_per_epoch") for row in found if row["step"] == "speed"] == [3.0]
    assert [row["equal"] for row in found if row["step"] == "bits"] == [True]


def test_a_page_of_nothing_has_every_section():
    lines = page([SETTING]).splitlines()
    assert [line for line in lines if line.startswith("## ")] == SECTIONS
    assert lines.count("Not measured.") == 5


def test_the_page_names_what_differs_and_what_torch_said():
    row = {"step": "conformance", "item": "qmf glove", "prediction": 1e-6, "loss": 0.0, "gradient": 0.5}
    row |= {"worst": "a.weight", "passed": False, "deterministic": ["put_ has no deterministic form"]}
    unequal = {"step": "bits", "item": "MULT-BERT, unaligned", "equal": False, "steps": 3, "deterministic": []}
    text = page([SETTING, json.loads(json.dumps(row)), unequal])
    assert "**0 of 1 agree**" in text
    assert "| qmf glove | 1e-06 | 0 | 0.5 | a.weight | **no** |" in text
    assert "- PyTorch: put_ has no deterministic form (qmf glove)" in text
    assert "- Different: MULT-BERT, unaligned" in text
