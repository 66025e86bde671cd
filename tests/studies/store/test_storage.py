"""`--storage`: what is a URL of a database, and that its password goes nowhere. With a server: tests/engines."""

import os
import pickle
import sys

import pytest

from hycon.errors import UserError
from studies.cli import main
from studies.engines.slurm import inherited
from studies.store.database import storage_of
from studies.store.leases import MARK
from studies.store.run_store import RunStore


@pytest.mark.parametrize(
    ("given", "url", "password"),
    [
        ("postgresql://h/d", "postgresql://h/d", None),
        ("postgres://me@h:5433/d", "postgresql://me@h:5433/d", None),
        ("postgresql+psycopg2://me:pass@h/d?sslmode=require", "postgresql://me@h/d?sslmode=require", "pass"),
        ("postgresql://me:p%40%2F%25@h/d", "postgresql://me@h/d", "p@/%"),
        ("postgresql://me@h/d?password=pass&host=/run/pg", "postgresql://me@h/d?host=%2Frun%2Fpg", "pass"),
        ("postgresql://me:pass@h/d?password=other", "postgresql://me@h/d", "pass"),
        ("postgresql://h/d?password=pass", "postgresql://@h/d", "pass"),
        ("postgresql://me@h/d?sslpassword=hidden&sslmode=require", "postgresql://me@h/d?sslmode=require", None),
        ("postgresql://:pass@h/d", "postgresql://@h/d", "pass"),
        ("postgresql:///d", "postgresql:///d", None),
    ],
)
def test_the_password_is_cut_off(given, url, password):
    found = storage_of(given)
    assert (found.url, found.password) == (url, password)
    if "hidden" in given:
        assert "hidden" not in repr(found) + str(found) + found.name + found.url + found.reason(OSError("hidden"))
    assert password is None or password not in repr(found) + str(found) + found.name + found.url
    assert storage_of(found.full_url()) == found == pickle.loads(pickle.dumps(found))
    assert found.sqlalchemy_url().startswith("postgresql+psycopg2://")


def test_optuna_gets_the_same_database():
    from sqlalchemy.engine import make_url

    url = make_url(storage_of("postgresql://me:p%40%2F%25@h:5433/d?sslmode=require").sqlalchemy_url())
    assert (url.username, url.password, url.host, url.port, url.database) == ("me", "p@/%", "h", 5433, "d")
    assert dict(url.query) == {"sslmode": "require"}


@pytest.mark.parametrize(
    "given",
    [
        "secret", "mysql://me:secret@h/d", "sqlite:///secret", "postgresql:secret", "postgresql://me:se/cret@h/d",
        "postgresql://me:se#cret@h/d", "postgresql://me:se?cret@h/d", "postgresql://me:secret@x@h/d",
        "postgresql://me:secret@h:port/d", "postgresql://[secret/d", "postgresql://h/d?secret",
    ],
)  # fmt: skip
@pytest.mark.parametrize("variable", [False, True])
def test_what_is_no_url_is_one_sentence_without_it(given, variable, monkeypatch, tmp_path, capsys):
    if variable:
        monkeypatch.setenv("BENCH_STORAGE", given)
    options = [] if variable else ["--storage", given]
    for command in (["worker"], ["doctor"], ["run", "table1", "--profile", "demo"]):
        assert main([*command, *options, "--results", str(tmp_path / "r"), "--data", str(tmp_path / "d")]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"bench: {'BENCH_STORAGE' if variable else '--storage'} ")
        assert "postgresql://" in error
        assert error.count("\n") == 1
        assert "cret" not in error
    assert list(tmp_path.iterdir()) == []


def test_given_wins_over_the_environment(monkeypatch):
    assert storage_of() is storage_of("") is None
    monkeypatch.setenv("BENCH_STORAGE", "postgresql://a/a")
    assert storage_of().name == "a/a"
    assert storage_of("postgresql://b/b").name == "b/b"


def test_without_psycopg2_a_sentence_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    options = ["--storage", "postgresql://me:secret@h/d", "--results", str(tmp_path / "r")]
    assert main(["run", "table1", "--profile", "demo", "--data", str(tmp_path / "d"), *options]) == 2
    assert capsys.readouterr().err == (
        'bench: --storage needs psycopg2: `pip install -e ".[postgres]" -c constraints.txt` in the clone.\n'
    )
    assert list(tmp_path.iterdir()) == []


def test_jobs_inherit_the_password_and_nobody_else(monkeypatch):
    storage = storage_of("postgresql://me:pass@h/d")
    with inherited(storage):
        assert os.environ["BENCH_STORAGE"] == "postgresql://me:pass@h/d"
    assert "BENCH_STORAGE" not in os.environ
    monkeypatch.setenv("BENCH_STORAGE", "postgresql://b/b")
    with inherited(None):
        assert os.environ["BENCH_STORAGE"] == "postgresql://b/b"


def test_a_folder_whose_leases_are_in_a_database_is_refused_without_it(tmp_path):
    store = RunStore(tmp_path)
    lease = store.claim("ab" * 8)
    (tmp_path / "leases" / MARK).write_text("{}")
    for refused in (store.leases.check, store.sweep, lambda: store.claim("cd" * 8)):
        with pytest.raises(UserError, match="give --storage with the URL of the one in"):
            refused()
    lease.release()
    assert [path.name for path in (tmp_path / "leases").iterdir()] == [MARK]


def test_a_lease_that_came_with_the_note_is_given_back(tmp_path, monkeypatch):
    """The database was noted between the look at the folder and the claim."""
    from studies.store import leases

    claim = leases.claim

    def late(folder, run_id, ttl):
        held = claim(folder, run_id, ttl)
        (folder / MARK).write_text("{}")
        return held

    monkeypatch.setattr(leases, "claim", late)
    with pytest.raises(UserError, match="give --storage"):
        RunStore(tmp_path).claim("ab" * 8)
    assert [path.name for path in (tmp_path / "leases").iterdir()] == [MARK]
