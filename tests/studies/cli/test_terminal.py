"""What `bench` prints, into whatever: exit codes tell the truth, control characters are shown, nothing is lost."""

import csv
import dataclasses
import io
import json
import os
import subprocess
import sys

import pytest
from builders import fill
from commands import bench, places

from studies.cli.terminal import Guarded
from studies.document import html, latex, markdown
from studies.document.blocks import Document, Text
from studies.document.data import as_csv
from studies.document.words import visible
from studies.store.run_store import RunStore
from studies.store.study import load_studies, save_study

NASTY = "\x1b]0;owned\x07 a\u202eb\rc\x9b31m"
SHOWN = r"\u001b]0;owned\u0007 a\u202eb\u000dc\u009b31m"
CODE = "import sys; from studies.cli import main; raise SystemExit(main(sys.argv[1:]))"


@pytest.fixture
def folder(tmp_path):
    fill(RunStore(tmp_path / "results"), [0.1, 0.2])
    return tmp_path


def start(*arguments, **how):
    return subprocess.run([sys.executable, "-c", CODE, *map(str, arguments)], timeout=120, check=False, **how)


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_a_broken_pipe_stops_no_run(tmp_path):
    run = [
        "run", "table1", "--profile", "demo", "--rows", "EF-LSTM-GloVe", "--trials", "1", "--seeds", "1",
        "--epochs", "1", "--executor", "inline",
    ]  # fmt: skip
    gone = closed_pipe()
    ended = start(*run, *places(tmp_path), stdout=gone, stderr=gone)
    assert ended.returncode == 0
    assert len(list(RunStore(tmp_path / "results").records())) == 2


def test_a_reader_that_has_read_enough(tmp_path):
    """`| head -1` in a shell: of a run with workers, whose progress goes there too, and of the table afterwards."""
    run = "run table1 --profile demo --rows EF-LSTM-GloVe --trials 1 --seeds 1 --epochs 1 --workers 2"
    where = " ".join(places(tmp_path))
    for command in (run, "table table1 --profile demo"):
        shell = f'"{sys.executable}" -c "$CODE" {command} {where} 2>&1 | head -1; exit ${{PIPESTATUS[0]}}'
        ended = subprocess.run(
            ["bash", "-c", shell], env={**os.environ, "CODE": CODE}, capture_output=True, timeout=250, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert ended.stdout.count(b"\n") == 1
        assert b"Traceback" not in ended.stdout
    assert len(list(RunStore(tmp_path / "results").records())) == 2
    left = [
        path for path in tmp_path.rglob("*") if path.name.startswith(".") or path.parent.name in ("leases", "queue")
    ]
    assert left == []


def test_a_broken_pipe_leaves_the_exit_code_of_what_was_found(folder):
    store = RunStore(folder / "results")
    (store.folder(store.ids()[0]) / "record.json").write_text("{")
    ended = start("doctor", *places(folder), stdout=closed_pipe(), stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (1, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_device_is_one_sentence(folder):
    with open("/dev/full", "w") as full:
        ended = start("table", "table1", *places(folder), stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 2
    assert ended.stderr == b"bench: what was to be printed is lost (No space left on device).\n"


def test_ascii_only(folder):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = start("table", "table1", *places(folder), env=environment, capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert rb"\u00b1" in ended.stdout


def test_closed_output(folder):
    shell = f'exec "{sys.executable}" -c "$CODE" doctor --results "{folder / "results"}" <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", shell], env={**os.environ, "CODE": CODE}, check=False).returncode == 0


def test_a_deleted_working_directory(tmp_path):
    (tmp_path / "gone").mkdir()
    shell = f'cd "{tmp_path}/gone"; rmdir ../gone; exec "{sys.executable}" -c "$CODE" list runs'
    ended = subprocess.run(["bash", "-c", shell], env={**os.environ, "CODE": CODE}, capture_output=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == b"bench: The working directory is gone: change into another one.\n"


def test_a_full_memory(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("hycon.data.importers.synthetic.synthesize", full)
    code, _, err = bench(capsys, "data", "synthesize", "--data", tmp_path)
    assert (code, err) == (2, "bench: that needs more memory than there is; what was finished is kept.\n")


def test_a_path_beyond_the_system_s_limit(capsys):
    code, _, err = bench(capsys, "list", "runs", "--results", "x/" * 5000)
    assert (code, err) == (2, "bench: a path is longer than this system allows: give shorter ones.\n")


@pytest.mark.parametrize("command", [["list", "runs"], ["list", "runs", "--json"], ["doctor"], ["table", "table1"]])
def test_control_characters_are_shown_and_not_obeyed(folder, capsys, command):
    store = RunStore(folder / "results")
    study = load_studies(store)[0]
    failed = dataclasses.replace(next(store.records()).spec, seed=77)
    store.put_failed(failed, NASTY)
    save_study(store, dataclasses.replace(study, runs=[*study.runs, failed.id]))
    _, out, err = bench(capsys, *command, *places(folder))
    assert all(c == "\n" or c.isprintable() for c in out + err)
    if "--json" in command:
        assert NASTY in {item["reason"] for item in json.loads(out)}


def test_every_character_is_shown_as_json_has_it():
    assert visible(NASTY) == SHOWN
    for text in ("\x7f", "\ud800", "\U000e0041", "\u2028"):
        assert json.loads(f'"{visible(text)}"') == text
        assert visible(text).isascii()
    assert visible("ä±–\t\n🙂") == "ä±–\t\n🙂"


def test_a_stream_that_breaks_is_noted_once_and_goes_on():
    class Broken(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    stream = Guarded(Broken())
    print("a", "b", file=stream, flush=True)
    assert stream.error.errno == 28
    assert print("a", file=Guarded(None)) is None


def test_no_control_character_in_documents():
    document = Document("T", NASTY, [Text(NASTY)], [Text(NASTY)])
    for text in (html.page(NASTY, [Text(NASTY)]), markdown.write(document), latex.write(document)):
        assert all(c in "\n\t" or c.isprintable() for c in text)


def test_no_heading_or_list_is_injected_into_markdown():
    for text in ("x\n# owned", "x\r\n\r\n## owned", "x\u2028# owned"):
        assert markdown.fragment([Text(text)]).count("\n") == 1
    for text, shown in (("# a", r"\# a"), ("- a", r"\- a"), ("12. a", r"12\. a"), ("---", r"\---"), ("-0.3", "-0.3")):
        assert markdown.fragment([Text(text)]) == f"{shown}\n"


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "=\x1b"])
def test_no_formula_in_csv(text):
    (line,) = csv.DictReader(io.StringIO(as_csv([{"a": text}])))
    assert line["a"] == "'" + visible(text)


def test_numbers_and_words_stay_as_they_are_in_csv():
    lines = [{"a": -0.3, "b": "-0.3", "c": "+1e-3", "d": "a=b", "e": "-", "f": None}]
    assert as_csv(lines).splitlines()[1] == "-0.3,-0.3,+1e-3,a=b,-,"


@pytest.mark.parametrize("value", ["Infinity", "NaN", "1e999", "9" * 400, "[1, -Infinity]"])
def test_numbers_that_are_none(capsys, tmp_path, value):
    code, _, err = bench(capsys, "run", "table1", "--profile", "demo", "--set", f"clip={value}", *places(tmp_path))
    assert code == 2
    assert err.startswith("bench: --set clip is ")
    assert err.endswith("expected a finite number.\n")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("option", [["--time", "inf"], ["--time", "nan"], ["--idle", "nan"]])
def test_times_that_are_none(folder, capsys, option):
    code, _, err = bench(capsys, "worker", *option, "--results", folder / "results")
    assert code == 2
    assert "expected seconds" in err
