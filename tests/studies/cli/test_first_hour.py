"""What a newcomer meets: tables that fit the terminal, what a run says at its end, and a dry run that needs nothing."""

import shlex

import pytest
from commands import ROWS, RUN, bench, places

from studies.cli import closing

LOUD = [word for word in RUN if word != "--quiet"]


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize(
    "command",
    [
        ["table", "table1", "--profile", "demo"],
        ["table", "table2"],
        ["table", "table3", "--notes"],
        ["table", "table8"],
        ["table", "tuning", "--profile", "demo"],
        ["status", "--profile", "demo"],
        ["claims", "--profile", "demo"],
        ["claims", "--paper"],
        ["list", "models"],
        ["list", "tables"],
        ["list", "claims"],
        ["list", "runs"],
        ["list", "ablations"],
        [*RUN, "--dry-run"],
        [*RUN, "--notes"],
        ["ablate", "--remove", "iemcl", *RUN[2:4], "--trials", "1", "--seeds", "1", "--epochs", "1", "--dry-run"],
    ],
)
def test_no_line_is_longer_than_the_terminal(capsys, monkeypatch, copy, command, width):
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = bench(capsys, *command, *places(copy))
    assert code == 0
    commands = [line for line in out.splitlines() if line.startswith("bench ")]  # to be copied whole
    assert [line for line in out.splitlines() if len(line) > width and line not in commands] == []


def test_numbers_come_before_the_caption(capsys, monkeypatch, finished):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = bench(capsys, "table", "table1", "--profile", "demo", *places(finished))
    lines = out.splitlines()
    assert lines[0] == "Comparison with baselines (the paper's Table 1). SYNTHETIC DATA."
    assert lines[2].startswith("Model")
    caption = lines[next(i for i, line in enumerate(lines) if line.startswith("SYNTHETIC DATA")) :]
    assert len(caption) <= 10
    assert "--notes prints the whole caption." in " ".join(caption)
    _, whole, _ = bench(capsys, "table", "table1", "--profile", "demo", "--notes", *places(finished))
    assert "mean ± sample standard deviation (n) over seeded runs" in " ".join(whole.split())


def test_a_file_is_as_wide_as_ever_whatever_the_terminal(capsys, monkeypatch, finished, tmp_path):
    monkeypatch.setenv("COLUMNS", "60")
    table = ["table", "table1", "--profile", "demo", *places(finished)]
    assert bench(capsys, *table, "--output", tmp_path / "narrow")[0] == 0
    monkeypatch.delenv("COLUMNS")
    assert bench(capsys, *table, "--output", tmp_path / "wide")[0] == 0
    assert (tmp_path / "narrow").read_text() == (tmp_path / "wide").read_text()


def test_a_run_ends_with_commands_that_work_as_printed(capsys, copy, monkeypatch):
    code, out, err = bench(capsys, *LOUD, *places(copy), "--executor", "inline")
    assert code == 0
    assert out.startswith("Comparison with baselines")
    commands = err[err.index("bench: 0 runs done") :].splitlines()
    assert "8 were done before" in err
    assert str(copy / "results") in err.replace("\n  ", "")
    commands = [line.strip() for line in commands if line.startswith("  bench ")]
    assert [shlex.split(line)[1] for line in commands] == ["table", "report", "claims"]
    for line in commands:
        code, out, _ = bench(capsys, *shlex.split(line)[1:])
        assert code == 0
        if line.startswith("  bench table"):
            assert ROWS[0] in out


def test_commands_are_called_as_this_one_was(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", [str(tmp_path / "bench")])
    assert closing.program() == str(tmp_path / "bench")
    monkeypatch.setattr("shutil.which", lambda name: str(tmp_path / name))
    assert closing.program() == "bench"
    monkeypatch.setattr("sys.argv", ["-m"])
    assert closing.program() == "bench"


def test_a_dry_run_needs_no_weights_and_makes_up_no_time(capsys, copy, monkeypatch):
    monkeypatch.setenv("BENCH_OFFLINE", "1")
    asked = ["run", "table1", "--corpus", "synthetic", "--rows", ",".join(ROWS), "--dry-run"]
    given = [*asked, *places(copy), "--encoder", "bert=no-such-encoder"]
    code, out, _ = bench(capsys, *given, "--results", copy / "none")
    assert code == 0
    assert "0.00" not in out
    assert "110 runs, time unknown" in out
    assert "The bert encoder no-such-encoder is not on this machine; none of its runs counts as done." in " ".join(
        out.split()
    )
    assert [line.split()[-1] for line in out.splitlines()[2:4]] == ["unknown", "unknown"]
    code, out, _ = bench(capsys, *given)  # the folder has runs of the other row, of one epoch
    [times] = [line for line in out.splitlines() if line.startswith("EF-LSTM-GloVe")]
    assert "about" in times
    assert "55 of which the time is unknown" in " ".join(out.split())
    assert "estimate" in out


def test_a_dry_run_counts_the_runs_of_the_encoder_of_that_name(capsys, copy, monkeypatch):
    """As on another machine than the one that made the runs."""
    from studies.search import plan

    def elsewhere(kind, name, *, fetch=True):
        from hycon.errors import UserError

        assert not fetch
        raise UserError("not here.")

    monkeypatch.setattr("hycon.pretrained.identify", elsewhere)
    code, out, _ = bench(capsys, *RUN, *places(copy), "--dry-run")
    assert code == 0
    assert "0 runs: all is done." in out
    assert "the stored runs with that name count as its" in " ".join(out.split())
    assert plan.Setting.absent == frozenset()
