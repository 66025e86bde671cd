"""`bench train` and `bench predict`: a model that can be used."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import shlex
import sys
from pathlib import Path
from typing import Any

from hycon.errors import UserError, check_known, install
from studies.cli.arguments import parse_encoders
from studies.cli.options import choosing, command, mixing, modelling, picking
from studies.cli.output import write_file
from studies.cli.selection import known_models, table_of

SHAPES = "a run's id, or TABLE ROW"
FORMATS = ("csv", "parquet")
ENOUGH = 20  # labels that tell [-1, 1] from [-3, 3]; chosen here: if half of all lie in [-1, 1], 20 all do once in 10^6


def add(commands) -> None:
    add_train(commands)
    add_predict(commands)


def add_train(commands) -> None:
    added = command(commands, "train", do_train, "make a finished run's model again, as a folder that can be used")
    added.add_argument("what", nargs="+", metavar="WHAT", help=f"{SHAPES} for the row's median run by validation loss")
    added.add_argument("--output", metavar="DIR", required=True, help="the folder to write; it must not be there yet")
    added.add_argument("--device", metavar="NAME", help="where to train, such as cuda:1 (default: as the run was)")
    added.add_argument(
        "--anyway", action="store_true", help="write weights that are not the record's, too; the folder says so"
    )
    modelling(added, "the file of a model outside the repository, as it was for the run")
    choosing(added, rows=False)
    picking(added)
    mixing(added)
    added.add_argument("--quiet", action="store_true", help="no progress")
    added.epilog = "bench train table1 HyCon-BERT --output my-model; bench train 00e5b8dd --output my-model"


def add_predict(commands) -> None:
    added = command(
        commands, "predict", do_predict, "predict utterances of your own, or of a corpus, by a trained model"
    )
    added.add_argument("folder", metavar="DIR", help="a folder of `bench train`")
    added.add_argument(
        "utterances",
        metavar="FOLDER|CORPUS",
        help="a folder with utterances.csv (or that file), labels not needed; or the name of an imported corpus",
    )
    added.add_argument("--split", metavar="NAME", help="only train, valid or test (default of a corpus: test)")
    added.add_argument(
        "--missing",
        default="refuse",
        metavar="HOW",
        help="where a modality is read and not given: refuse (default) or zeros",
    )
    added.add_argument(
        "--text-vectors", metavar="FILE", help="GloVe text file for words that the model has no vector for"
    )
    added.add_argument("--device", default="cpu", metavar="NAME", help="cpu, or cuda:0 ... (default: cpu)")
    added.add_argument("--format", metavar="FORMAT", help="csv or parquet (default: by the name of --output, else csv)")
    added.add_argument("--output", metavar="FILE", help="write there instead of printing")
    modelling(added, "the file of the model, where it is one outside the repository")
    added.epilog = "bench predict my-model my-utterances; bench predict my-model mosi --split test"


# ------------------------------------------------------------------------------------------------- train


def do_train(options) -> int:
    from studies.engines.progress import Progress
    from studies.lookup import results_root
    from studies.store.run_store import RunStore
    from studies.trust.retrain import retrain

    words = [word for part in options.what for word in (part.split(" ", 1) if len(options.what) == 1 else [part])]
    store = RunStore(results_root(options.results))
    record, chosen = _run_of(options, store, words)
    with Progress(records=[record], quiet=options.quiet) as progress:
        progress.expect([record.spec], {}, "training again")
        done = retrain(
            record,
            store,
            Path(options.output),
            data=options.data,
            device=options.device,
            encoders=parse_encoders(options.encoder),
            anyway=options.anyway,
            chosen=chosen,
            on_event=progress,
        )
    for sentence in chosen:
        print(sentence)
    what = f"run {record.id} ({record.spec.model}-{record.spec.text} on {record.spec.corpus}, seed {record.spec.seed})"
    if not done.differs:
        how = "kept with the run" if done.kept else "trained again, bit for bit those of its record"
        print(f"{options.output}: the model of {what}; weights {how}")
        return 0
    print(f"bench: these are not the weights of {what}:", file=sys.stderr)
    for line in done.differs:
        print(f"  {line}", file=sys.stderr)
    said = f"{options.output} is written and says so" if done.written else "nothing is written (--anyway writes them)"
    print(f"bench: {said}.", file=sys.stderr)
    return 1


def _run_of(options, store, words: list[str]):
    """(record, how it was chosen) of what the command names."""
    from studies.authors.table_file import is_table_file
    from studies.tables import TABLES
    from studies.trust.retrain import median_run
    from studies.trust.verify import find_run

    if len(words) == 1 and words[0].lower() not in TABLES and not is_table_file(words[0]):
        known_models(options)
        return find_run(store, words[0]), ()
    if len(words) != 2:
        raise UserError(f"{' '.join(options.what)!r} names no run: expected {SHAPES}, such as table1 HyCon-BERT.")
    options.table, options.rows = words if is_table_file(words[0]) else (words[0].lower(), words[1])
    result = table_of(options)
    table, row = result.table, next((row for row in result.rows if row.status != "reference"), None)
    if row is None or not row.records:
        why = row.reason if row else "not run"
        how = f"`bench run {options.table} --rows {shlex.quote(words[1])}` with the same options makes some"
        raise UserError(f"Row {words[1]!r} has no finished seeded run here ({why}): {how}.")
    record = median_run(row.records)
    loss = math.nan if record.valid_loss is None else record.valid_loss
    n = len(row.records)
    said = f"Of {n} seeded runs of {row.row.name} it is the one with the median validation loss, {loss:.4f}."
    return record, (said, f"All {n} on the test split: {_means(row, table)}.")


def _means(row, table) -> str:
    """ "Acc2 85.1 ± 0.4 (5), MAE ...": the row's cells."""
    from studies.document.words import mean_sd

    stats = [(column, row.cells[column.metric].stat) for column in table.columns]
    return ", ".join(f"{c.heading} {mean_sd(s.mean, s.sd, s.n, c.decimals)}" for c, s in stats if s)


# ------------------------------------------------------------------------------------------------- predict


def do_predict(options) -> None:
    format = _format(options)
    known_models(options)
    import torch

    from hycon.data.importers import plain
    from hycon.data.manifest import corpus_names
    from hycon.predict import load_model
    from hycon.train import seed_everything
    from studies.engines.machine import check_devices

    check_devices((options.device,))
    path = Path(options.utterances)
    is_corpus = options.utterances in corpus_names(options.data)
    own = path.is_file() or plain.recognise(path) or (path.exists() and not is_corpus)
    if not own and not is_corpus:
        raise UserError(f"{path} is no file, no folder, and no corpus of `bench data list`.")
    given = plain.read_unlabelled(path) if own else None
    seed_everything(0, options.device)  # only operations with repeatable bits
    model = load_model(options.folder, device=options.device)
    torch.set_num_threads(max(1, int(model.description.spec.get("threads", 1))))  # their number decides the last bits
    for note in _cautions(model):
        print(f"bench: {note}", file=sys.stderr)
    if given is None:
        columns = _of_corpus(model, options)
    else:
        columns = _of_folder(model, options, given)
    content = _table(columns, format)
    if options.output:
        write_file(Path(options.output), content)
        print(f"{options.output}: {len(columns['id'])} predictions", file=sys.stderr)
    else:
        print(content.decode(), end="")


def _format(options) -> str:
    """csv or parquet. Raises UserError for what cannot be written."""
    by_name = "parquet" if (options.output or "").endswith(".parquet") else "csv"
    format = options.format or by_name
    check_known("format", format, FORMATS)
    if format == "parquet":
        if not options.output:
            raise UserError("Parquet is no text: give a file with --output.")
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise UserError(f"Parquet needs pyarrow: {install('parquet')}, or use --format csv.") from error
    return format


def _cautions(model) -> list[str]:
    found = [note for note in model.description.notes if "synthetic" in note.lower()]
    said = [f"{found[0]}: these predictions say nothing about real speech."] if found else []
    if model.permuted:
        said.append(
            f"the model is a control, trained with {' and '.join(model.permuted)} of other utterances; here it reads "
            "each utterance's own, so the test split's predictions are not those of its run."
        )
    if model.description.differs:
        said.append(f"the model is not the one of run {model.description.run}: {model.description.differs[0]}.")
    return said


def _of_corpus(model, options) -> dict[str, Any]:
    from hycon.data import load
    from hycon.data.manifest import SPLITS

    name = options.split or "test"
    check_known("split", name, SPLITS)
    if options.text_vectors:
        raise UserError("--text-vectors is for a folder of utterances; a corpus has its vectors from its import.")
    corpus = load(options.utterances, options.data)
    split = corpus.splits[name]
    found = model.of_corpus(corpus, name)
    if not model.emotions and corpus.manifest.label_bound != model.label_bound:
        _tell_scale(model, f"corpus {corpus.name!r} has labels in {_within(corpus.manifest.label_bound)}")
    return {"id": split.ids, **_predicted(model, found), **_labels(split.label.numpy(), corpus.manifest.emotions)}


def _within(bound: float) -> str:
    return f"[-{bound:g}, {bound:g}]"


def _tell_scale(model, said: str) -> None:
    print(
        f"bench: {said}, the model was trained on {_within(model.label_bound)}: predictions are on the model's scale. "
        "Compute no metrics of them against these labels.",
        file=sys.stderr,
    )


def _tell_scale_of_folder(model, given) -> None:
    """Where labels that are handed on are plainly on another scale than the model's."""
    from hycon.metrics import NARROW, WIDE

    try:
        labels = [abs(float(one["label"])) for one in given if one.get("label") not in (None, "")]
    except ValueError:
        return  # no numbers: nothing to compare with
    if not labels or model.emotions:
        return
    if (largest := max(labels)) > model.label_bound:
        _tell_scale(model, f"the utterances have labels up to {largest:g}")
    elif model.label_bound == WIDE and largest <= NARROW and len(labels) >= ENOUGH:
        _tell_scale(model, f"all labels lie in {_within(NARROW)}")


def _labels(label, emotions) -> dict[str, Any]:
    if not emotions:
        return {"label": label}
    return {f"label:{name}": label[:, i] for i, name in enumerate(emotions)}


def _of_folder(model, options, given) -> dict[str, Any]:
    from studies.document.words import count_of

    if options.split is not None:
        given = [one for one in given if one.get("split") == options.split]
        if not given:
            raise UserError(f"{options.utterances} has no utterance of split {options.split!r}.")
    if options.text_vectors:
        model = _with_vectors(model, options.text_vectors, given)
    unknown = model.unknown(given)
    if unknown:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        said = f"no vector for {count_of(len(unknown), 'word')}, which the model then does not see: {shown}"
        print(f"bench: {said} (--text-vectors FILE looks them up).", file=sys.stderr)
    found = model(given, missing=options.missing)
    _tell_scale_of_folder(model, given)
    kept = {key: [one[key] for one in given] for key in given[0] if key in ("split", "label") or ":" in key}
    return {"id": [one["id"] for one in given], **_predicted(model, found), **kept}


def _with_vectors(model, file: str, given):
    from hycon.data.importers.word_vectors import read_vectors

    unknown = model.unknown(given)
    if not unknown:
        return model
    _, words, matrix = read_vectors(file, unknown)
    return model.with_vectors(words, matrix)


def _predicted(model, found) -> dict[str, Any]:
    """Columns: `prediction`; or for each emotion whether it is there, and the two logits."""
    if not model.emotions:
        return {"prediction": found}
    columns: dict[str, Any] = {}
    for i, name in enumerate(model.emotions):
        columns[name] = found[:, i].argmax(1)
        columns |= {f"{name}:no": found[:, i, 0], f"{name}:yes": found[:, i, 1]}
    return columns


def _table(columns: dict[str, Any], format: str) -> bytes:
    """The file's content. Numbers in CSV have as many digits as their bits need."""
    if format == "parquet":
        import pandas

        buffer, frame = io.BytesIO(), pandas.DataFrame(columns)
        for name in frame.columns.intersection(["label", *(n for n in columns if n.startswith("emotion:"))]):
            with contextlib.suppress(ValueError):  # words stay what they are
                frame[name] = pandas.to_numeric(frame[name].replace("", None))
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([str(value) for value in row] for row in zip(*columns.values(), strict=True))
    return text.getvalue().encode()
