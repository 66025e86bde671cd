"""Optuna's ledger of a search: what Optuna reads is what the store says, whatever was there before."""

import dataclasses
import errno
import os
import warnings

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState

from hycon.errors import UserError
from studies.search.draws import draw
from studies.search.ledger import _write_database, write_ledger
from studies.store.run_store import RunStore
from studies.store.study import Study

SPACE = {"lr": [1e-3, 1e-4, 1e-5], "dropout": [0.0, 0.1, 0.2, 0.3], "layers": [[32], [64, 32], [128]], "seed": [1, 2]}
DRAWS = draw(SPACE, 5, "tfn", "mosi", "glove", "search")
STUDY = Study(
    "tfn", "glove", "mosi", "0", {}, {}, None, "cpu", "paper", DRAWS, [str(n) for n in range(5)], space=SPACE
)  # fmt: skip
LOSSES = [0.5, 0.4, None, float("nan"), 0.25]


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path)


@pytest.fixture
def journal(store):
    return store.root / "studies" / f"{STUDY.id}.journal"


def trials(journal):
    storage = JournalStorage(JournalFileBackend(str(journal)))
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).get_trials()


def test_the_ledger_has_the_draws_and_the_results(store, journal):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_ledger(store, STUDY, LOSSES)
    found = trials(journal)
    assert [t.number for t in found] == [0, 1, 2, 3, 4]
    done, failed = TrialState.COMPLETE, TrialState.FAIL
    assert [t.state for t in found] == [done, done, failed, failed, done]
    assert [t.value for t in found] == [0.5, 0.4, None, None, 0.25]
    layers = {"[32]", "[64,32]", "[128]"}  # Optuna's choices are no lists
    for trial, values in zip(found, DRAWS, strict=True):
        assert trial.params == {**values, "layers": str(values["layers"]).replace(" ", "")}
        assert set(trial.distributions["layers"].choices) == layers
        assert trial.distributions["lr"].choices == tuple(SPACE["lr"])


def test_a_ledger_is_written_anew_and_leaves_nothing_beside_it(store, journal):
    write_ledger(store, STUDY, [None] * 5)
    write_ledger(store, STUDY, LOSSES)
    write_ledger(store, STUDY, LOSSES)
    assert [t.value for t in trials(journal)] == [0.5, 0.4, None, None, 0.25]
    assert [path.name for path in journal.parent.iterdir()] == [journal.name]


@pytest.mark.parametrize("damage", [b'{"op_code":4,"worker', b"\x00\x00\xff\n", b"not json\n", None])
def test_a_damaged_or_torn_journal_blocks_no_row(store, journal, damage):
    write_ledger(store, STUDY, LOSSES)
    whole = journal.read_bytes()
    journal.write_bytes(whole[: len(whole) // 2] if damage is None else whole + damage)
    write_ledger(store, STUDY, LOSSES)
    assert [t.value for t in trials(journal)] == [0.5, 0.4, None, None, 0.25]


def test_a_journal_that_is_a_link_is_replaced_and_not_followed(store, journal, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    journal.parent.mkdir()
    journal.symlink_to(precious)
    write_ledger(store, STUDY, LOSSES)
    assert precious.read_text() == "precious"
    assert not journal.is_symlink()
    assert len(trials(journal)) == 5


def test_a_journal_that_somebody_has_locked_is_not_waited_for(store, journal):
    write_ledger(store, STUDY, [None] * 5)
    os.symlink(journal, f"{journal}.lock")  # as Optuna does; it outlives a killed writer
    write_ledger(store, STUDY, LOSSES)
    os.unlink(f"{journal}.lock")
    assert trials(journal)[0].value == 0.5


def test_a_full_disk_leaves_the_ledger_that_was_there(store, journal, monkeypatch):
    write_ledger(store, STUDY, [None] * 5)
    before = journal.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"Cannot write the search's ledger .*: No space left on device"):
        write_ledger(store, STUDY, LOSSES)
    assert journal.read_bytes() == before
    assert [path.name for path in journal.parent.iterdir()] == [journal.name]


def test_an_unwritable_folder_is_one_sentence(store):
    (store.root / "studies").write_text("")
    with pytest.raises(UserError, match="Cannot write the search's ledger"):
        write_ledger(store, STUDY, LOSSES)


def test_a_database_gets_the_study_anew(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    for losses in ([0.5, None], [0.4, 0.3]):
        _write_database(url, dataclasses.replace(STUDY, draws=DRAWS[:2]), losses)
    (name,) = optuna.get_all_study_names(url)
    assert [t.value for t in optuna.load_study(study_name=name, storage=url).get_trials()] == [0.4, 0.3]


def test_an_unusable_database_is_one_sentence_without_the_password():
    with pytest.raises(UserError, match="Cannot write the search's ledger in its database") as caught:
        _write_database("nosuchdb://me:secret@localhost/x", STUDY, LOSSES)
    assert "secret" not in str(caught.value)
