"""Models and tables of one's own, outside the repository: run, read and verified by the content of the file."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from builders import run_spec
from commands import bench, places

from hycon.errors import UserError
from hycon.model_file import read_model_file
from studies.authors.rows import known_model, rows_of
from studies.authors.table_file import read_table_file
from studies.engines.queue_worker import missing_model
from studies.lookup import table_spec
from studies.registry import MODELS, model_module, other_source, own_files, register, source_of
from studies.store.record import RunSpec
from studies.store.run_store import RunStore
from studies.tables import TABLES

SMALL = ["--profile", "demo", "--trials", "2", "--seeds", "2", "--epochs", "1", "--quiet"]
TABLE = """
[table]
title = "Mean-pool beside EF-LSTM"
models = ["mean_pool.py"]
columns = ["acc2", "mae"]
rows = [
  "EF-LSTM-GloVe",
  { name = "Mean", model = "mean_pool", text = "glove" },
  { name = "Wide", model = "mean_pool", text = "glove", options = { hidden = 128 }, variant_of = "Mean" },
]
"""


QUOTING = TABLE.replace("rows = [", 'published = "numbers.csv"\nrows = [', 1)


def numbers(folder, *lines):
    head = "model,dataset,metric,value,spread,protocol,lineage,source"
    (folder / "numbers.csv").write_text("\n".join([head, *lines]))


def rows(out):
    return {row["row"]: (row["status"], row["n"]) for row in json.loads(out)["rows"]}


def test_a_model_s_rows_run_beside_those_named_and_are_read_again(written, tmp_path, capsys):
    where = ["--model", written(), *places(tmp_path)]
    named = ["--rows", "EF-LSTM-GloVe", "--format", "json"]
    code, out, err = bench(capsys, "run", *where, *SMALL, *named, "--workers", "2")
    assert (code, err) == (0, "")
    own, theirs = ("Mean-pool-GloVe", ("measured", 2)), ("EF-LSTM-GloVe", ("measured", 2))
    assert dict([own, theirs]).items() <= rows(out).items()
    assert "Not in the paper: Mean-pool-GloVe." in json.loads(out)["caption"]
    code, out, _ = bench(capsys, "table", *where, "--profile", "demo", "--format", "json")
    assert code == 0
    assert list(rows(out)) == ["Mean-pool-GloVe", "Constant prediction"]
    assert rows(out)["Mean-pool-GloVe"] == ("measured", 2)
    specs = [record.spec for record in RunStore(tmp_path / "results").records()]
    assert {spec.source for spec in specs if spec.model == "mean_pool"} == {source_of("mean_pool")}
    stored = [json.loads(p.read_text())["spec"] for p in (tmp_path / "results/runs").glob("*/record.json")]
    assert all(("source" in spec) == (spec["model"] == "mean_pool") for spec in stored)  # the suite's are as ever
    run = next(spec.id for spec in specs if spec.model == "mean_pool")
    code, out, _ = bench(capsys, "verify", run, *where, "--quiet")
    assert (code, "identical" in out) == (0, True)


def test_another_content_of_the_file_is_another_model(written, tmp_path, capsys):
    where = ["--model", written(), *places(tmp_path)]
    assert bench(capsys, "run", *where, *SMALL, "--executor", "inline")[0] == 0
    first = source_of("mean_pool")
    run = next(iter(RunStore(tmp_path / "results").records())).id
    written(("hidden: int = 64", "hidden: int = 48"))
    code, out, _ = bench(capsys, "table", *where, "--profile", "demo")
    assert code == 0
    assert "run only with other contents of the model's file" in " ".join(out.split())
    code, _, err = bench(capsys, "verify", run, *where, "--quiet")
    assert code == 2
    assert "holds other content now" in err
    MODELS.pop("mean_pool")
    code, _, err = bench(capsys, "verify", run, *places(tmp_path), "--quiet")
    assert code == 2
    assert f"(sha256 {first[:12]}): give it with --model FILE (a copy is in" in err


def test_the_folder_keeps_the_file_by_which_its_runs_are_verified(written, tmp_path, capsys):
    file = written()
    before = file.read_bytes()
    assert bench(capsys, "run", "--model", file, *SMALL, *places(tmp_path), "--executor", "inline")[0] == 0
    run = next(iter(RunStore(tmp_path / "results").records())).id
    written(("hidden: int = 64", "hidden: int = 48"))
    [kept] = (tmp_path / "results/models").glob("*/mean_pool.py")
    assert kept.read_bytes() == before
    code, out, _ = bench(capsys, "verify", run, "--model", kept, *places(tmp_path), "--quiet")
    assert (code, "identical" in out) == (0, True)
    assert bench(capsys, "doctor", *places(tmp_path))[0] == 0


def test_an_entry_point_names_a_model(written, tmp_path, monkeypatch):
    written(name="there.py")
    info = tmp_path / "own-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[hycon.models]\npooled = there\ngone = not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert known_model("pooled") == "pooled"
    assert MODELS["pooled"].file.path == str(tmp_path / "there.py")
    assert [row.name for row in rows_of("pooled")] == ["Mean-pool-GloVe"]
    with pytest.raises(UserError, match="names not_there_at_all, which is no module here"):
        known_model("gone")
    with pytest.raises(UserError, match="Unknown model 'poled'; nearest: pooled"):
        known_model("poled")


def test_a_failing_model_names_its_line_and_the_log(written, tmp_path, capsys):
    file = written(("means = [", "means = 1 / 0 if self.training else ["))
    code, _, err = bench(capsys, "run", "--model", file, *SMALL, *places(tmp_path))
    assert code == 1
    assert f"ZeroDivisionError: division by zero ({file}, line 36)" in err
    log = sorted((tmp_path / "results/runs").glob("*/log.txt"))[0]
    assert f"(traceback: {log})" in err
    assert "Traceback (most recent call last)" in log.read_text()


def test_after_a_failure_comes_the_check_and_no_empty_table(written, tmp_path, capsys):
    file = written(("means = [", "means = 1 / 0 if self.training else ["))
    loud = [word for word in SMALL if word != "--quiet"]
    code, _, err = bench(capsys, "run", "--model", file, *loud, *places(tmp_path), "--executor", "inline")
    assert code == 1
    following = [line.split()[1:3] for line in err.splitlines() if line.startswith("  bench ")]
    assert following == [["check-model", str(file)], ["status", "table1"]]


def test_after_runs_of_ones_own_model_no_claims_of_the_paper_are_named(written, tmp_path, capsys):
    loud = [word for word in SMALL if word != "--quiet"]
    code, _, err = bench(capsys, "run", "--model", written(), *loud, *places(tmp_path), "--executor", "inline")
    assert code == 0, err
    assert [line.split()[1] for line in err.splitlines() if line.startswith("  bench ")] == ["table", "report"]


@pytest.mark.parametrize("version", ["'1'", "1.5", "True", "None"])
def test_a_version_that_no_record_can_hold_is_refused_before_anything_is_trained(written, tmp_path, capsys, version):
    file = written(("VERSION = 1", f"VERSION = {version}"))
    code, _, err = bench(capsys, "run", "--model", file, *SMALL, *places(tmp_path))
    assert code == 2
    assert f"VERSION in {file} is {version}; expected a whole number" in err
    assert not (tmp_path / "results/runs").exists()


def test_a_table_file(written, tmp_path, capsys):
    written()
    file = tmp_path / "mine.toml"
    file.write_text(TABLE)
    code, out, err = bench(capsys, "run", file, *SMALL, *places(tmp_path), "--format", "json", "--executor", "inline")
    assert (code, err) == (0, "")
    measured = dict.fromkeys(("EF-LSTM-GloVe", "Mean", "Wide"), ("measured", 2))
    assert measured.items() <= rows(out).items()
    assert json.loads(out)["caption"].startswith("Mean-pool beside EF-LSTM. Not in the paper.")
    code, out, _ = bench(capsys, "status", file, "--profile", "demo", *places(tmp_path))
    assert code == 0
    assert "Wide" in out
    assert [column.metric for column in table_spec(str(file)).columns] == ["acc2", "mae"]
    file.write_text(TABLE.replace("columns", 'corpus = "elsewhere"\ncolumns'))
    for notes in ([], ["--notes"]):
        code, out, _ = bench(capsys, "table", file, "--profile", "demo", *notes, *places(tmp_path))
        assert "Corpus: synthetic (the table's own: elsewhere)" in " ".join(out.split())
    file.write_text(TABLE)
    assert table_spec(str(file)).rows[2].intact == table_spec(str(file)).rows[1]
    numbers(tmp_path, 'Mean,mosi,mae,0.731,0.012,mmsa,authors,"Me, table 2"')
    file.write_text(QUOTING)
    shown = ["table", file, "--profile", "demo", *places(tmp_path)]
    code, out, _ = bench(capsys, *shown)
    assert code == 0
    assert "Published by others on mosi, quoted and not measured here." in " ".join(out.split())
    assert "0.731 ± 0.012†" in out
    quoted = [row["published"] for row in json.loads(bench(capsys, *shown, "--format", "json")[1])["rows"]]
    assert [(one["value"], one["source"]) for row in quoted for one in row] == [(0.731, "Me, table 2")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[table]", "[run]"), "has no \\[table\\]"),
        (('"EF-LSTM-GloVe"', '"EF-LSTM-Glove2"'), "Unknown row 'EF-LSTM-Glove2' of table1"),
        (('model = "mean_pool", text = "glove" }', 'model = "mean_pol", text = "glove" }'), "Unknown model 'mean_pol'"),
        (('text = "glove" }', 'text = "bert" }'), "no text front-end 'bert'"),
        (("hidden = 128", "width = 128"), "has no option 'width'"),
        (('variant_of = "Mean"', 'variant_of = "Man"'), "Unknown row 'Man' above"),
        (('"acc2", "mae"', '"acc3"'), "Unknown column 'acc3'"),
        (('"mean_pool.py"', '"gone.py"'), "Cannot read the model file"),
        (("title", "tittle"), r"Unknown key 'tittle' in \[table\]; nearest: title"),
        (('"Wide"', '"Mean"'), "'Mean' is there twice"),
        (("hidden = 128 }, variant", "}, variant"), "is no TOML file|same model with the same options"),
    ],
)
def test_mistakes_in_a_table_file(written, tmp_path, change, said):
    written()
    assert change[0] in TABLE
    (tmp_path / "mine.toml").write_text(TABLE.replace(*change))
    with pytest.raises(UserError, match=said) as caught:
        read_table_file(tmp_path / "mine.toml")
    assert "mine.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Man,mosi,mae,0.7,,mmsa,authors,us", "mine.toml: Unknown row 'Man' in numbers.csv; nearest: Mean"),
        ("Mean,mosi,mea,0.7,,mmsa,authors,us", "numbers.csv, line 2: metric 'mea' is none of mae, corr"),
        ("Mean,mosi,mae,,,mmsa,authors,us", "numbers.csv, line 2: could not convert"),
        ("Mean,mosi,mae,nan,,mmsa,authors,us", "numbers.csv, line 2: value is nan"),
        ("Mean,mosi,mae,0.7,,mmsa,authors,", "numbers.csv, line 2: it has no source"),
        ("Mean,mosi,mae,0.7,,mmsa,authors,us, table 2", "numbers.csv, line 2: it has too many fields"),
        ("Mean,mosi", "numbers.csv, line 2: metric '' is none of"),
        (None, "numbers.csv cannot be read: No such file"),
    ],
)
def test_mistakes_in_published_numbers(written, tmp_path, line, said):
    written()
    (tmp_path / "mine.toml").write_text(QUOTING)
    if line is not None:
        numbers(tmp_path, line)
    with pytest.raises(UserError, match=said):
        read_table_file(tmp_path / "mine.toml")


def test_a_table_of_the_suite_s_name_is_refused(written, tmp_path):
    written()
    (tmp_path / "table1.toml").write_text(TABLE)
    with pytest.raises(UserError, match="a table of this suite is called table1"):
        read_table_file(tmp_path / "table1.toml")
    assert len(TABLES["table1"].rows) >= 22


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tfn.py", None, "has the name of a model of this suite, tfn"),
        ("9.py", None, "names the model '9'"),
        ("half.py", "def f(:", "half.py, line 1, is not Python"),
        ("empty.py", "", "defines no VERSION"),
    ],
)
def test_files_that_are_no_model(written, tmp_path, capsys, name, text, said):
    file = written(name=name)
    if text is not None:
        file.write_text(text)
    code, out, err = bench(capsys, "run", "--model", file, *SMALL, *places(tmp_path))
    assert (code, out) == (2, "")
    assert said in err
    assert not (tmp_path / "results").exists()


def test_a_file_that_cannot_be_executed_names_its_line(written):
    file = written(("VERSION = 1", "VERSION = 1\nimport there_is_no_such_module"))
    with pytest.raises(UserError, match=r"mean_pool.py, line 16: ModuleNotFoundError"):
        model_module(register(read_model_file(file)))


def test_without_a_table_and_a_model_there_is_nothing_to_run(capsys):
    code, _, err = bench(capsys, "run")
    assert code == 2
    assert "Name a TABLE, such as table1" in err


def test_a_worker_leaves_runs_of_a_file_that_it_was_not_given(written, corpora):
    name = register(read_model_file(written()))
    spec = dataclasses.replace(run_spec(corpora, "ef_lstm", "glove"), model=name, source=source_of(name))
    assert missing_model(spec) is None
    other = dataclasses.replace(spec, source="0" * 64)
    assert "another content" in missing_model(other)
    MODELS.pop(name)
    assert "not here: give it with --model FILE" in missing_model(spec)
    assert "give it with --model FILE" in other_source(name, spec.source)


def test_ids_of_the_suite_s_own_runs_know_no_source(corpora):
    spec = run_spec(corpora, "ef_lstm", "glove")
    assert dataclasses.replace(spec, source="a").id != spec.id != dataclasses.replace(spec, source="b").id
    fixed = RunSpec("tfn", 3, "glove", "mosi", "sha", {}, {}, 1)
    assert fixed.id == "f1bd843be2167802"


def test_a_job_of_slurm_s_gets_the_models_from_its_driver(written, tmp_path, monkeypatch, capsys):
    """Such a job is a process that has read no file: it gets the content, pickled. Its log says what it left."""
    import pickle

    import studies.engines.queue_worker
    from studies.engines.options import How
    from studies.engines.slurm import pull_worker

    name = register(read_model_file(written()))
    how, expected = pickle.dumps(How(models=own_files())), source_of(name)
    MODELS.pop(name)
    written(("hidden: int = 64", "hidden: int = 48"))
    seen = []

    ended = SimpleNamespace(end="idle", refused={"1": "it is for a GPU", "2": "it is for a GPU"})
    monkeypatch.setattr(studies.engines.queue_worker, "work", lambda *_, **__: seen.append(source_of(name)) or ended)
    pull_worker(str(tmp_path / "results"), pickle.loads(how))
    assert seen == [expected]
    assert capsys.readouterr().out == "not taken: it is for a GPU\n"
