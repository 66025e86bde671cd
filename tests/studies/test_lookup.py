"""What a view of a folder is, where a corpus's manifest is found, and what reading results imports."""

import subprocess
import sys

import pytest
from builders import manifest

from hycon.errors import UserError
from studies.lookup import View, known_manifest, manifest_of
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


def test_reading_results_imports_nothing_that_runs_them():
    modules = "studies.lookup, studies.aggregate.table, studies.aggregate.frame, studies.claims, studies.report"
    modules += ", studies.report.write, studies.figures"
    code = f"import sys, {modules}\nprint(*[name for name in sys.modules if name.startswith({RUNNING!r})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


RUNNING = ("studies.engines", "studies.search", "torch", "transformers", "optuna", "pandas", "matplotlib", "sklearn")
