"""What a view of a folder is, where a corpus's manifest is found, and what reading results imports."""

import dataclasses
import subprocess
import sys

import pytest
from builders import manifest

from hycon.errors import UserError
from studies.lookup import View, known_manifest, manifest_of, pick_rows
from studies.store.run_store import RunStore
from studies.store.study import remember_corpus
from studies.tables import TABLES


def test_a_view_reads_each_table_on_its_own_corpus_unless_one_is_given():
    assert View().corpus_of(TABLES["table2"]) == "mosei"
    assert View("mine").corpus_of(TABLES["table2"]) == "mine"
    assert View(profile="paper").corpus_of(TABLES["table3"]) == "iemocap"
    assert View(profile="demo").corpus_of(TABLES["table3"]) == "synthetic_emotions"
    assert View("mosi", profile="demo").corpus_of(TABLES["table1"]) == "mosi"


def test_an_unknown_profile_or_protocol_is_refused_before_anything_is_read():
    with pytest.raises(UserError, match="Unknown profile 'dmo'; nearest: demo"):
        View(profile="dmo")
    with pytest.raises(UserError, match="Unknown protocol 'mmssa'; nearest: mmsa"):
        View(protocol="mmssa")


def test_a_manifest_is_the_datas_then_what_results_remember_then_blank(tmp_path):
    data, store = tmp_path / "data", RunStore(tmp_path / "results")
    blank = manifest_of("mosi", data, store.root)
    assert (blank.task, blank.files, blank.synthetic) == ("sentiment", {}, False)
    assert manifest_of("synthetic_emotions", data).task == "emotion"
    assert manifest_of("synthetic_emotions", data).synthetic
    assert known_manifest("mosi", data, store.root) is None
    remember_corpus(store, manifest(notes=["of the results"]))
    assert manifest_of("mosi", data, store.root).notes == ["of the results"]
    remember_corpus(RunStore(tmp_path / "other"), manifest(notes=["of the other"]))
    assert manifest_of("mosi", data, tmp_path / "other", store.root).notes == ["of the other"]
    remember_corpus(RunStore(tmp_path), manifest(notes=["of the data"]))
    assert known_manifest("mosi", tmp_path / "corpora", store.root).notes == ["of the data"]
    with pytest.raises(UserError, match="No corpus 'mosy'"):
        manifest_of("mosy", data, store.root)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("HyCon*", ["HyCon-BERT", "HyCon-XLNet", "HyCon-v2-BERT", "HyCon-v2-XLNet"]),
        ("hycon-v2-*, tfn-glove", ["HyCon-v2-BERT", "HyCon-v2-XLNet", "TFN-GloVe"]),
        ("M[fu]*-GloVe,MFN-?love", ["MFN-GloVe", "MULT-GloVe"]),
    ],
)
def test_rows_by_patterns_each_once(asked, found):
    assert [row.name for row in pick_rows(TABLES["table1"], asked.split(","))] == found


def test_a_row_s_own_name_is_no_pattern():
    named = dataclasses.replace(TABLES["table1"].rows[0], name="A [1]*")
    table = dataclasses.replace(TABLES["table1"], rows=(*TABLES["table1"].rows, named))
    assert pick_rows(table, ["a [1]*"]) == [named]


@pytest.mark.parametrize(
    ("pattern", "near"),
    [("HyKon-B*", "HyCon-BERT, "), ("Hykn*", "HyCon-BERT, HyCon-XLNet, HyCon-v2-BERT"), ("*-XNet", "MAG-XLNet, ")],
)
def test_a_pattern_without_rows_is_refused_with_the_nearest_names(pattern, near):
    with pytest.raises(UserError) as caught:
        pick_rows(TABLES["table1"], ["TFN*", pattern])
    assert str(caught.value).startswith(f"table1 has no row that matches {pattern!r}; nearest: {near}")


def test_reading_results_imports_nothing_that_runs_them():
    modules = "studies.lookup, studies.aggregate.table, studies.aggregate.frame, studies.claims, studies.report"
    modules += ", studies.report.write, studies.figures"
    code = f"import sys, {modules}\nprint(*[name for name in sys.modules if name.startswith({RUNNING!r})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


RUNNING = ("studies.engines", "studies.search", "torch", "transformers", "optuna", "pandas", "matplotlib", "sklearn")
