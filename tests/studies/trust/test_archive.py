"""`bench export` and `bench import-results`: there and back, the same bytes each time, and nothing hostile gets in."""

import dataclasses
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile

import pytest
from archives import files, repacked, written
from builders import fill, manifest, put, spec

import studies.trust.archive
import studies.trust.tarball
from hycon.data.conditions import CONDITIONS, DRAWS
from hycon.errors import UserError
from hycon.saved import WEIGHTS
from studies.aggregate.table import table_result
from studies.cli import main
from studies.lookup import View, manifest_of
from studies.store.run_store import PREDICTIONS, RunStore
from studies.store.study import load_studies, remember_corpus, save_study, write_result
from studies.tables import TABLES
from studies.trust.archive import export, import_results

ERRORS = [0.1, 0.2, 0.3]


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path / "results")
    fill(store, ERRORS, trials=2)
    store.put_failed(spec(50), "it diverged")
    return store


@pytest.fixture
def archive(store, tmp_path):
    export(store, tmp_path / "a.tar.gz")
    return tmp_path / "a.tar.gz"


# ------------------------------------------------------------------------------------------------- there and back


def test_there_and_back(store, archive, tmp_path):
    new = RunStore(tmp_path / "new")
    report = import_results(archive, new)
    assert report.added == {"runs": 5, "studies": 1, "corpora": 1, "failures": 1, "robustness": 0}
    assert report.conflicts == []
    assert files(new.root) == files(store.root)
    table = TABLES["table1"]
    assert table_result(table, new, View(data="none")) == table_result(table, store, View(data="none"))
    again = import_results(archive, new)
    assert again.present == report.added
    assert set(again.added.values()) == {0}
    assert again.conflicts == []
    assert files(new.root) == files(store.root)


def test_the_same_results_give_the_same_bytes_wherever_they_lie(store, archive, tmp_path):
    shutil.copytree(store.root, tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").rglob("*"):
        os.utime(path, (1, 1))
    export(RunStore(tmp_path / "elsewhere"), tmp_path / "b.tar.gz")
    assert (tmp_path / "b.tar.gz").read_bytes() == archive.read_bytes()
    with tarfile.open(archive) as packed:
        names = packed.getnames()
        assert names[0] == "manifest.json"
        assert names[1:] == sorted(names[1:])
        assert {(m.mtime, m.uid, m.uname, m.mode) for m in packed.getmembers()} == {(0, 0, "", 0o644)}


def test_without_predictions_no_label_leaves(store, tmp_path):
    done = export(store, tmp_path / "p.tar.gz", predictions=False)
    assert (done.runs, done.predictions) == (5, 0)
    new = RunStore(tmp_path / "new")
    import_results(tmp_path / "p.tar.gz", new)
    assert not list(new.root.rglob("*.npz"))
    assert len(list(new.records())) == 5
    export(store, tmp_path / "full.tar.gz")  # and the predictions can follow
    assert import_results(tmp_path / "full.tar.gz", new).present["runs"] == 5
    assert files(new.root) == files(store.root)


def test_a_corpus_or_a_profile_alone(store, tmp_path):
    put(store, spec(70, corpus="mosei"), 0.1)
    assert export(store, tmp_path / "x.tar.gz", corpus="mosei").runs == 1
    assert export(store, tmp_path / "y.tar.gz", corpus="mosi").runs == 5
    assert export(store, tmp_path / "z.tar.gz", profile="paper").runs == 5  # named by a study of it
    for choice in ({"corpus": "iemocap"}, {"profile": "demo"}):
        with pytest.raises(UserError, match="no finished run of"):
            export(store, tmp_path / "no.tar.gz", **choice)
    assert not (tmp_path / "no.tar.gz").exists()


def test_damaged_results_are_not_exported(store, tmp_path):
    path = store.folder(load_studies(store)[0].runs[0]) / PREDICTIONS
    path.write_bytes(b"x")
    with pytest.raises(UserError, match="sha256"):
        export(store, tmp_path / "x.tar.gz")
    (path.parent / "record.json").write_text("{")
    with pytest.raises(UserError, match="bench doctor"):
        export(store, tmp_path / "x.tar.gz")
    assert list(tmp_path.glob("*.tar.gz")) == []
    assert list(tmp_path.glob(".*")) == []


def test_a_manifest_that_an_import_would_refuse_is_not_exported(store, tmp_path):
    path = store.root / "corpora" / "mosi" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": "../x"}))
    with pytest.raises(UserError, match=r"corpora/mosi/manifest.json is damaged .* `bench doctor --repair`"):
        export(store, tmp_path / "x.tar.gz")
    assert list(tmp_path.glob("*.tar.gz")) == []


# ------------------------------------------------------------------------------------------------- what is there


def test_a_finished_run_is_never_replaced(store, archive, tmp_path):
    new = RunStore(tmp_path / "new")
    mine = put(new, spec(0), 0.7)
    report = import_results(archive, new)
    assert report.added["runs"] == 4
    assert len(report.conflicts) == 1
    assert f"run {mine.id} is there with other metrics, validation loss" in report.conflicts[0]
    assert new.get(mine.id) == mine


def test_the_same_numbers_from_another_machine_are_no_conflict(store, archive, tmp_path):
    new = RunStore(tmp_path / "new")
    mine = put(new, spec(0), 0.1, seconds=99.0, device="elsewhere")
    report = import_results(archive, new)
    assert report.present["runs"] == 1
    assert report.conflicts == []
    assert new.get(mine.id).seconds == 99.0


def test_robustness_is_added_to_a_run_that_has_none(tmp_path):
    measured = {c.name: {"paper": {"acc2": 0.5}} for c in CONDITIONS}
    robust = {"robustness": measured, "robustness_draws": DRAWS, "weights_sha256": "a" * 64}
    there, here = RunStore(tmp_path / "there"), RunStore(tmp_path / "here")
    run = put(there, spec(0), **robust).id
    first = put(here, spec(0), weights_sha256="a" * 64)
    export(there, tmp_path / "a.tar.gz")
    report = import_results(tmp_path / "a.tar.gz", here)
    assert (report.added["robustness"], report.present["runs"], report.conflicts) == (1, 1, [])
    assert here.get(run) == dataclasses.replace(first, robustness=measured, robustness_draws=DRAWS)
    report = import_results(tmp_path / "a.tar.gz", here)
    assert (report.added["robustness"], report.present["robustness"], report.conflicts) == (0, 1, [])
    other = RunStore(tmp_path / "other")
    put(other, spec(0), **robust | {"robustness": {**measured, "missing_text": {"paper": {"acc2": 0.6}}}})
    report = import_results(tmp_path / "a.tar.gz", other)
    assert report.conflicts == [f"run {run} is there with other robustness: the present one is kept"]


def test_robustness_of_other_weights_is_not_added(tmp_path):
    measured = {c.name: {"paper": {"acc2": 0.5}} for c in CONDITIONS}
    there, here = RunStore(tmp_path / "there"), RunStore(tmp_path / "here")
    put(there, spec(0), robustness=measured, robustness_draws=DRAWS, weights_sha256="a" * 64)
    first = put(here, spec(0), weights_sha256="b" * 64)
    export(there, tmp_path / "a.tar.gz")
    assert "with other weights" in import_results(tmp_path / "a.tar.gz", here).conflicts[0]
    assert here.get(first.id) == first


def test_weights_and_models_outside_the_repository_are_left_out_and_said(tmp_path, capsys):
    store = RunStore(tmp_path / "results")
    run = put(store, spec(0, model="mine", source="c" * 64)).id
    (store.folder(run) / WEIGHTS).write_bytes(b"large")
    write_result(store, "models/cccccccccccccccc/mine.py", b"code")
    assert main(["export", str(tmp_path / "a.tar.gz"), "--results", str(store.root), "--without-predictions"]) == 0
    err = capsys.readouterr().err
    assert "the weights of 1 runs are left out" in err
    assert "files of models outside the repository are left out: mine." in err
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        assert not [name for name in archive.getnames() if "models" in name or WEIGHTS in name]


def test_damaged_and_killed_runs_are_filled_in(store, archive, tmp_path):
    new = RunStore(tmp_path / "new")
    import_results(archive, new)
    first, second = load_studies(store)[0].runs[:2]
    (new.folder(first) / "record.json").write_text("{")
    (new.folder(second) / "record.json").unlink()
    (new.folder(second) / PREDICTIONS).write_bytes(b"half of another attempt")
    assert import_results(archive, new).added["runs"] == 2
    assert files(new.root) == files(store.root)


def test_the_longer_study_stays(store, archive, tmp_path):
    import dataclasses

    new = RunStore(tmp_path / "new")
    import_results(archive, new)
    study = load_studies(new)[0]
    for runs, selected, winner in (
        (study.runs[:1], 0, "archive"),
        ([], None, "archive"),
        ([*study.runs, "f" * 16], 0, "present"),
        (study.runs, 1, "conflict"),
    ):
        changed = dataclasses.replace(study, runs=runs, selected=selected)
        save_study(new, changed)
        report = import_results(archive, new)
        assert load_studies(new)[0] == (study if winner == "archive" else changed)
        assert bool(report.conflicts) == (winner == "conflict")


def test_other_data_under_the_same_name_is_said(store, archive, tmp_path):
    new = RunStore(tmp_path / "new")
    remember_corpus(new, manifest(files={"corpus.safetensors": "2" * 64}))
    assert "corpus mosi is there with other data" in import_results(archive, new).conflicts[0]
    (new.root / "corpora" / "mosi" / "manifest.json").write_text("{")
    (said,) = import_results(archive, new).conflicts
    assert said == "corpus mosi is there with a damaged manifest, which is kept"


def corpus_told_twice(tmp_path, present, told):
    """(what the import says, the manifest that is there then)."""
    stores = [RunStore(tmp_path / name) for name in ("here", "there")]
    for store, one in zip(stores, (present, told), strict=True):
        put(store, spec(1, data=one.sha256))
        remember_corpus(store, one)
    export(stores[1], tmp_path / "x.tar.gz")
    return import_results(tmp_path / "x.tar.gz", stores[0]), manifest_of("mosi", tmp_path / "none", stores[0].root)


@pytest.mark.parametrize("versions", [(1, 2), (2, 1), (1, 1), (2, 2)])
def test_the_same_files_in_two_formats_of_manifest_are_the_same_corpus(tmp_path, versions):
    present, told = (manifest(version=version) for version in versions)
    report, kept = corpus_told_twice(tmp_path, present, told)
    assert report.conflicts == []
    assert (report.present["corpora"], report.added["corpora"]) == (1, 0)
    assert kept.version == max(versions)  # it knows the runs of both
    assert {one.sha256 for one in (present, told)} <= {kept.sha256, kept.files_sha256}


def test_the_same_files_that_are_read_in_another_way_are_a_conflict_that_says_so(tmp_path):
    present, told = manifest(version=1), manifest(version=2, lengths={"text": 50}, aligned="step")
    report, kept = corpus_told_twice(tmp_path, present, told)
    assert report.conflicts == [
        "corpus mosi is there with the same files, but other lengths and alignment: the present manifest is kept"
    ]
    assert kept == present


# ------------------------------------------------------------------------------------------------- hostile archives


def members(*changes):
    """A change for `repacked`: (name, content) pairs to add."""
    return lambda content: {**content, **dict(changes)}


RUN, ELSEWHERE = "runs/" + "a" * 16, "studies/" + "a" * 16 + ".json"
HOSTILE = [
    (members(("/etc/passwd", b"x")), "no file of a results folder"),
    (members(("../outside.json", b"x")), "no file of a results folder"),
    (members((f"{RUN}/../../x.json", b"x")), "no file of a results folder"),
    (members((f"{RUN}/model.pt", b"x")), "no file of a results folder"),
    (members(("runs/notes.txt", b"x")), "no file of a results folder"),
    (members((f"{RUN}/record.json", b"{}")), "damaged"),
    (members((f"{RUN}/record.json", b"[]")), "damaged"),
    (members((f"{RUN}/record.json", b"[" * 100_000)), "damaged"),
    (members((f"{RUN}/{PREDICTIONS}", b"x")), "predictions but no record"),
    (members(("studies/" + "a" * 16 + ".json", b"{}")), "damaged"),
    (members(("corpora/mosi/manifest.json", b"{}")), "damaged"),
    (lambda c: {n.replace("mosi", "mosei"): b for n, b in c.items()}, "another corpus"),
    (lambda c: {ELSEWHERE if n.startswith("studies/") else n: b for n, b in c.items()}, "it is another study"),
    (lambda c: {n: (b"x" if n.endswith(".npz") else b) for n, b in c.items()}, "predictions are not those"),
    (
        lambda c: {n: (b.replace(b'"record_version": 1', b'"record_version": 9')) for n, b in c.items()},
        "newer version",
    ),
    (lambda c: {n: b.replace(b'"curve": []', b'"curve": {}') for n, b in c.items()}, "got `object` - at `\$\.curve`"),
    (lambda c: {n: b.replace(b' "version": 1\n}', b' "version": 9\n}') for n, b in c.items()}, "newer version"),
]


def refused(archive, tmp_path, said):
    new = RunStore(tmp_path / "new")
    with pytest.raises(UserError, match=said):
        import_results(archive, new)
    assert not new.root.exists()  # nothing was written


@pytest.mark.parametrize(("change", "said"), HOSTILE)
def test_contents_that_export_never_writes_are_refused_before_anything_is_written(archive, tmp_path, change, said):
    refused(repacked(archive, tmp_path / "bad.tar.gz", change), tmp_path, said)


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.XHDTYPE, b"L"],
)
def test_only_plain_files_are_read(archive, tmp_path, kind):
    with tarfile.open(archive) as given:
        content = [(m, given.extractfile(m).read()) for m in given.getmembers()]
    content[3][0].type, content[3][0].linkname = kind, "/etc/passwd"
    target = tmp_path / "bad.tar"
    with open(target, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb") as packed:
        for info, data in content:
            packed.write(info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512))
        packed.write(bytes(1024))
    refused(target, tmp_path, "not a plain file")


def test_members_that_are_not_as_the_manifest_says(archive, tmp_path):
    bad = tmp_path / "bad.tar.gz"

    def cut(content):
        return dict(list(content.items())[1:])

    def longer(content):
        return {n: b + b" " for n, b in content.items()}

    def other(content):
        return {n: b[:-1] + b"?" for n, b in content.items()}

    refused(repacked(archive, bad, cut, rehash=False), tmp_path, "missing")
    refused(repacked(archive, bad, longer, rehash=False), tmp_path, "its manifest says")
    refused(repacked(archive, bad, other, rehash=False), tmp_path, "sha256 of its manifest")
    refused(repacked(archive, bad, members((f"{RUN}/record.json", b"")), rehash=False), tmp_path, "does not name")
    with tarfile.open(archive) as given:
        content = [(m, given.extractfile(m).read()) for m in given.getmembers()]
    refused(written(bad, [*content[:3], content[2], *content[3:]]), tmp_path, "does not name|twice")
    refused(written(bad, [content[0], content[2], content[1], *content[3:]]), tmp_path, "out of order")
    refused(written(bad, content[1:]), tmp_path, "does not begin with")


def test_no_size_is_negative(archive, tmp_path):
    """One would make room for any other in the sum."""
    bad = tmp_path / "bad.tar.gz"
    with tarfile.open(archive) as given:
        content = {m.name: given.extractfile(m).read() for m in given.getmembers()}
    about = json.loads(content["manifest.json"])
    next(iter(about["files"].values()))["size"] = -1
    content["manifest.json"] = json.dumps(about).encode()
    refused(written(bad, [(tarfile.TarInfo(n), b) for n, b in content.items()]), tmp_path, "declares a negative size")
    info = tarfile.TarInfo("manifest.json")
    info.size = -1
    bad.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    refused(bad, tmp_path, "'manifest.json' has -1 bytes")


def test_a_member_that_ends_too_early_in_a_whole_gzip_is_refused(archive, tmp_path):
    whole = gzip.decompress(archive.read_bytes())
    bad = tmp_path / "bad.tar.gz"
    bad.write_bytes(gzip.compress(whole[: tarfile.BLOCKSIZE + 100]))
    refused(bad, tmp_path, "it ends within 'manifest.json'")


def test_bombs_are_refused_by_what_they_declare_and_by_what_they_hold(archive, tmp_path, monkeypatch):
    bad = tmp_path / "bad.tar.gz"
    zeros = members((f"{RUN}/record.json", bytes(2**20)))
    repacked(archive, bad, zeros)
    for limit, value in (("LARGEST_FILE", 2**19), ("LARGEST_ARCHIVE", 2**19), ("MOST_FILES", 3)):
        with monkeypatch.context() as patched:
            patched.setattr(studies.trust.tarball, limit, value)
            refused(bad, tmp_path, "beyond what is unpacked")
    with monkeypatch.context() as patched:
        patched.setattr(studies.trust.tarball, "LARGEST_MANIFEST", 100)
        refused(bad, tmp_path, "does not begin with")
    with open(bad, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb") as packed:
        packed.write(gzip.decompress(archive.read_bytes()) + bytes(2**22))  # zeros without end
    refused(bad, tmp_path, "something follows its end")


@pytest.mark.parametrize("cut", [0, 10, 200, -1, -9])
def test_torn_archives_are_refused(archive, tmp_path, cut):
    (tmp_path / "torn.tar.gz").write_bytes(archive.read_bytes()[:cut])
    refused(tmp_path / "torn.tar.gz", tmp_path, "archive|refused")


NO_ARCHIVES = {"empty": b"", "zip": b"PK\x03\x04", "zeros": b"\x1f\x8b" + bytes(50), "text": gzip.compress(b"hello")}


@pytest.mark.parametrize("content", NO_ARCHIVES.values(), ids=NO_ARCHIVES)
def test_files_that_are_no_archive(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    refused(tmp_path / "x", tmp_path, "archive|refused")
    refused(tmp_path / "missing", tmp_path, "No such file")


def test_every_flipped_byte_is_noticed_or_harmless(store, archive, tmp_path):
    """Whatever a damaged disk does to the archive: refused, or what was exported."""
    content = archive.read_bytes()
    for place in range(12, len(content), max(1, len(content) // 40)):
        (tmp_path / "flipped").write_bytes(content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :])
        new = RunStore(tmp_path / f"new{place}")
        with pytest.raises(UserError):
            import_results(tmp_path / "flipped", new)
        assert not new.root.exists()


# ------------------------------------------------------------------------------------------------- kills, commands


def test_killed_while_importing_and_issued_again(store, archive, tmp_path):
    """Killed before the n-th file is written: what is there is whole, and the second import completes it."""
    code = """
import os, signal, sys
import studies.store.run_store, studies.store.study
from studies.trust.archive import import_results
write, left = studies.store.run_store.write_atomic, int(sys.argv[3])
def dying(path, content):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(path, content)
studies.store.run_store.write_atomic = studies.store.study.write_atomic = dying
import_results(sys.argv[1], studies.store.run_store.RunStore(sys.argv[2]))
"""
    wanted = files(store.root)
    for number in (0, 1, 2, 5, 11, 12):
        new = RunStore(tmp_path / f"new{number}")
        done = subprocess.run([sys.executable, "-c", code, str(archive), str(new.root), str(number)])
        assert done.returncode == -signal.SIGKILL
        assert all(new.predictions(record.id) for record in new.records())
        assert not new.damaged()
        assert import_results(archive, new).conflicts == []
        assert files(new.root) == wanted


def test_the_commands(store, tmp_path, capsys):
    file = str(tmp_path / "a.tar.gz")
    assert main(["export", file, "--results", str(store.root)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{file}: 5 runs, 1 studies")
    assert "labels of the corpus" in err
    assert main(["export", file, "--results", str(store.root), "--without-predictions"]) == 0
    assert capsys.readouterr().err == ""
    where = ["--results", str(tmp_path / "new")]
    assert main(["import-results", file, *where]) == 0
    assert "runs: 5 added, 0 there already" in capsys.readouterr().out
    put(RunStore(tmp_path / "other"), spec(0), 0.9)
    assert main(["import-results", file, "--results", str(tmp_path / "other")]) == 1
    assert "the present one is kept" in capsys.readouterr().err
    for wrong in (
        ["export", file, "--results", str(tmp_path / "none")],
        ["export", str(tmp_path / "no" / "folder" / "x"), "--results", str(store.root)],
        ["export", file, "--profile", "dmo", "--results", str(store.root)],
        ["import-results", str(tmp_path / "none"), *where],
        ["import-results", str(tmp_path), *where],
    ):
        assert main(wrong) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("bench: ")
        assert err.count("\n") == 1
