"""`bench doctor`: damage of each kind is found, the sound is not, live runs are left alone, repairing loses nothing."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from builders import VERSIONS, fill, put, spec

from studies.cli import main
from studies.search.ledger import write_ledger
from studies.search.seeds import derive_seed
from studies.store.leases import claim
from studies.store.quarantine import QUARANTINE
from studies.store.run_store import PREDICTIONS, RunStore
from studies.store.study import save_study
from studies.trust.doctor import examine, repair

ERRORS = [0.1, 0.2]
SPACE = {"lr": [0.001, 0.002]}


@pytest.fixture
def sound(tmp_path):
    """A store with one study of two trials and two seeded runs, and that study."""
    store = RunStore(tmp_path / "results")
    return store, fill(store, ERRORS, trials=2)


def old(path):
    os.utime(path, (time.time() - 3600,) * 2, follow_symlinks=False)
    return path


def only(store):
    found = examine(store)
    assert len(found) == 1, found
    return found[0]


def finished(store):
    return {path.parent.name: path.read_bytes() for path in store.root.glob("runs/*/record.json")}


def mended(store):
    """What remains after repairing everything that was found; a second look must find the same."""
    left = repair(store, examine(store))
    assert [f.to_dict() for f in examine(store)] == [f.to_dict() for f in left]
    return left


def test_a_sound_store_has_no_findings(sound):
    store, study = sound
    write_ledger(store, dataclasses.replace(study, space=SPACE), [0.5, 1.5])
    assert examine(store) == []


def test_a_published_store_without_predictions_is_sound(sound):
    store, _ = sound
    for path in store.root.glob(f"runs/*/{PREDICTIONS}"):
        path.unlink()
    assert examine(store) == []


@pytest.mark.parametrize(
    "where", ["runs/.probe-00ff", "runs/{run}/.record.json.00ff.tmp", "studies/.x.json.00ff.tmp", "leases/.clock-00ff"]
)
def test_old_temporary_files_are_deleted_and_young_ones_left_alone(sound, where):
    store, study = sound
    path = store.root / where.format(run=study.runs[0])
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"half")
    assert examine(store) == []  # it may be in the middle of being written
    old(path)
    assert (only(store).kind, only(store).action) == ("temporary", "delete")
    before = finished(store)
    assert mended(store) == []
    assert not path.exists()
    assert finished(store) == before


@pytest.mark.parametrize(
    ("picked", "said"), [([0, 1, 2], None), ([0, 3, 7], "2 is number 4"), ([1, 0], "1 is number 2")]
)
def test_seeds_that_were_picked_are_told(tmp_path, picked, said):
    """As when of fifty runs the best stay in the study, and the folders of the others are deleted."""
    store = RunStore(tmp_path / "results")
    seeds = [derive_seed("ef_lstm", "mosi", "glove", "repeat", number) for number in picked]
    fill(store, [0.1] * len(seeds), trials=2, spec_seed=seeds)
    found = examine(store)
    assert [f.kind for f in found] == ([] if said is None else ["study"])
    assert said is None or f"its seeded run {said} by its seed" in found[0].said


def test_trials_that_were_picked_are_told(tmp_path):
    """As when those that were better on validation than the one that somebody wants are taken out."""
    store = RunStore(tmp_path / "results")
    study = fill(store, ERRORS, trials=2)
    for picked, told in (([0, 1], 0), ([0, 2], 1)):
        seeds = [derive_seed("ef_lstm", "mosi", "glove", "trial", number) for number in picked]
        trials = [put(store, spec(0, seed=seed), 0.5 + place).id for place, seed in enumerate(seeds)]
        (store.root / "studies" / f"{study.id}.json").unlink()
        study = dataclasses.replace(study, trials=trials)
        save_study(store, study)
        said = [f.said for f in examine(store)]
        assert sum("its trial 2 is number 3 by its seed" in one for one in said) == told, said


def test_a_checkpoint_that_a_kill_left_beside_a_record_is_deleted(sound):
    """Weights, best weights and the optimiser's state: gigabytes for BERT, which nobody else would take away."""
    store, study = sound
    names = ("checkpoint.json", "checkpoint-3.safetensors")
    for name in names:
        (store.folder(study.runs[0]) / name).write_bytes(b"state")
    assert {(f.path.rpartition("/")[2], f.action) for f in examine(store)} == {(name, "delete") for name in names}
    before = finished(store)
    assert mended(store) == []
    assert finished(store) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"id": "other"}', "\x00\xff"])
def test_damaged_records_go_to_quarantine(sound, content):
    store, study = sound
    run = study.runs[0]
    (store.folder(run) / "record.json").write_text(content)
    kinds = {f.kind: f for f in examine(store)}
    assert kinds["damaged"].path == f"runs/{run}"
    assert kinds["damaged"].action == "quarantine"
    left = mended(store)
    assert [f.kind for f in left] == ["study"]
    assert "1 of 2 seeded runs" in left[0].said
    assert (store.root / QUARANTINE / "runs" / run / "record.json").read_text() == content
    assert not store.folder(run).exists()


def test_quarantine_never_overwrites_what_is_there(sound):
    store, study = sound
    run = study.runs[0]
    for content in ("first", "second", "third"):
        store.folder(run).mkdir(exist_ok=True)
        (store.folder(run) / "record.json").write_text(content)
        repair(store, examine(store))
    folders = sorted((store.root / QUARANTINE / "runs").iterdir())
    assert [(f / "record.json").read_text() for f in folders] == ["first", "second", "third"]


def test_predictions_that_fail_their_checksum_or_are_gone(sound):
    store, study = sound
    path = store.folder(study.runs[0]) / PREDICTIONS
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    assert (only(store).kind, only(store).action) == ("predictions", "quarantine")
    path.unlink()
    assert (only(store).kind, only(store).action) == ("predictions", None)
    path.write_bytes(content)
    assert examine(store) == []


def test_failed_and_unfinished_runs(sound):
    store, _ = sound
    store.put_failed(spec(77), "it diverged")
    assert only(store).kind == "failed"
    assert "it diverged" in only(store).said
    assert only(store).action is None
    shutil.rmtree(store.folder(spec(77).id))
    folder = store.folder("ab" * 8)
    folder.mkdir()
    assert examine(store) == []  # a run that is just being started
    old(folder)
    assert (only(store).kind, only(store).action) == ("unfinished", "delete")
    (folder / "log.txt").write_text("Killed")
    old(folder)
    assert (only(store).kind, only(store).action) == ("unfinished", "quarantine")
    assert mended(store) == []
    assert (store.root / QUARANTINE / "runs" / folder.name / "log.txt").exists()


def test_an_old_failure_beside_a_finished_run_is_deleted_and_the_run_kept(sound):
    store, study = sound
    store.put_failed(spec(0), "killed")
    assert (only(store).kind, only(store).path) == ("stray", f"runs/{study.runs[0]}/failed.json")
    before = finished(store)
    assert mended(store) == []
    assert finished(store) == before


def test_files_that_are_not_of_the_suite_are_told_and_left(sound):
    store, study = sound
    for where in ("runs/notes.txt", f"runs/{study.runs[0]}/model.pt", "studies/notes.md"):
        path = store.root / where
        path.write_text("mine")
        assert (only(store).kind, only(store).path, only(store).action) == ("stray", where, None)
        repair(store, examine(store))
        assert path.read_text() == "mine"
        path.unlink()


def test_torn_journals_and_what_was_set_aside(sound):
    store, study = sound
    journal = store.root / "studies" / f"{study.id}.journal"
    write_ledger(store, dataclasses.replace(study, space=SPACE), [0.5, None])
    journal.write_bytes(journal.read_bytes()[:-5])
    assert (only(store).kind, only(store).action) == ("journal", "quarantine")
    assert mended(store) == []
    journal.with_name(journal.name + ".torn").write_text("x")
    assert only(store).kind == "journal"
    assert mended(store) == []
    lock = journal.with_name(journal.name + ".lock")
    os.symlink(journal, lock)  # as Optuna does; it outlives a killed writer
    assert examine(store) == []
    old(lock)
    assert only(store).kind == "lock"
    assert mended(store) == []
    assert not lock.is_symlink()


def test_damaged_studies_and_those_of_another_name(sound):
    store, study = sound
    path = store.root / "studies" / f"{study.id}.json"
    content = path.read_text()
    other = path.with_name("0" * 16 + ".json")
    other.write_text(content)
    assert "holds study" in only(store).said
    other.unlink()
    path.write_text(json.dumps({**json.loads(content), "version": 99}))
    assert "newer" in only(store).said
    assert only(store).action is None
    path.write_text(content[:50])
    assert (only(store).kind, only(store).action) == ("study", "quarantine")
    assert mended(store) == []


def test_studies_that_name_runs_that_are_gone(sound):
    store, study = sound
    shutil.rmtree(store.folder(study.trials[0]))
    assert "1 of 2 trials are gone" in only(store).said
    assert only(store).action is None
    shutil.rmtree(store.folder(study.runs[1]))
    assert "1 of 2 seeded runs" in examine(store)[1].said


def test_a_winner_that_validation_did_not_choose(sound):
    store, study = sound
    draws = [study.draws[1], study.draws[0]]
    save_study(store, dataclasses.replace(study, selected=1, draws=draws))
    assert "trial 0 has the lower validation loss, but trial 1 was selected" in only(store).said


def test_a_search_under_way_is_no_finding(sound):
    store, study = sound
    trials, draws = [*study.trials, "ab" * 8], [*study.draws, {"lr": 0.5}]
    save_study(store, dataclasses.replace(study, trials=trials, draws=draws, selected=None, runs=[]))
    assert examine(store) == []


def test_mixed_environments_in_a_row(tmp_path):
    store = RunStore(tmp_path)
    study = fill(store, ERRORS, environment=[VERSIONS, {**VERSIONS, "torch": "2.12.0"}])
    found = only(store)
    assert (found.kind, found.path, found.action) == ("mixed", f"studies/{study.id}.json", None)
    assert "ef_lstm-glove on mosi" in found.said
    assert "2.12.0" in found.said
    assert study.runs[1][:8] in found.said


def test_a_damaged_manifest(sound):
    store, _ = sound
    (store.root / "corpora" / "mosi" / "manifest.json").write_text("{")
    assert (only(store).kind, only(store).action) == ("damaged", "quarantine")
    assert mended(store) == []


def test_stale_leases_are_released_and_live_runs_left_alone(sound):
    store, study = sound
    leases = store.root / "leases"
    code = (
        "import sys; from pathlib import Path; from studies.store.leases import claim\n"
        "claim(Path(sys.argv[1]), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, str(leases), study.runs[0]], check=True)  # its holder is dead now
    assert (only(store).kind, only(store).action) == ("lease", "release")
    mine = claim(leases, "cd" * 8)
    assert mine is not None
    folder = store.folder("cd" * 8)
    folder.mkdir()
    (folder / ".record.json.00ff.tmp").write_text("half")
    old(folder / ".record.json.00ff.tmp")
    (folder / "record.json").write_text("{")
    old(folder)
    assert only(store).kind == "lease"
    assert mended(store) == []
    assert mine.path.exists()
    assert (folder / ".record.json.00ff.tmp").exists()
    mine.release()
    assert {f.kind for f in examine(store)} == {"temporary", "damaged"}


def test_a_run_that_starts_between_looking_and_repairing_is_left_alone(sound):
    store, study = sound
    path = store.folder(study.runs[0]) / "record.json"
    path.write_text("{")
    found = examine(store)
    lease = claim(store.root / "leases", study.runs[0])
    assert repair(store, found) == found
    assert path.exists()
    lease.release()
    assert found[0] not in repair(store, found)


def test_the_command(sound, capsys):
    store, study = sound
    where = ["--results", str(store.root)]
    assert main(["doctor", *where]) == 0
    assert capsys.readouterr().out == "nothing found\n"
    (store.folder(study.trials[1]) / "record.json").write_text("{")
    assert main(["doctor", *where]) == 1
    out = capsys.readouterr().out
    assert f"damaged     runs/{study.trials[1]}: " in out
    assert "[--repair: moved to quarantine/]" in out
    assert main(["doctor", "--json", *where]) == 1
    assert json.loads(capsys.readouterr().out)[0]["repair"] == "quarantine"
    assert main(["doctor", "--repair", *where]) == 1  # the trial that is gone remains, for `bench run`
    assert "[moved to quarantine/]" in capsys.readouterr().out
    shutil.rmtree(store.root / "studies")
    assert main(["doctor", "--repair", *where]) == 0


def test_the_command_where_nothing_is(tmp_path, capsys):
    assert main(["doctor", "--results", str(tmp_path / "none")]) == 2
    assert "is not there" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_newer_record_is_told_and_left(sound):
    store, study = sound
    path = store.folder(study.runs[0]) / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "record_version": 99}))
    found = [f for f in examine(store) if f.kind == "damaged"]
    assert "newer version" in found[0].said
    assert found[0].action is None
