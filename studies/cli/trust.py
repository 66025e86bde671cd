"""`bench verify`, `diff`, `doctor`, `export`, `import-results`: can results be relied on, and moving them."""

from __future__ import annotations

import sys
from dataclasses import asdict

from hycon.errors import UserError, check_known
from studies.cli.arguments import parse_encoders
from studies.cli.options import beside, choosing, command, encoding, measuring, mixing, modelling, storing
from studies.cli.output import print_json
from studies.cli.selection import known_models, named_rows, store_of, view_of
from studies.engines.executors import DEFAULT, names

SCHEMAS = ("every_eval_ever",)  # of `bench export --schema`


def add(commands) -> None:
    add_verify(commands)
    add_diff(commands)
    add_doctor(commands)
    add_export(commands)
    added = command(commands, "import-results", do_import, "add the runs of an archive of `bench export`")
    added.add_argument("file", metavar="FILE", help="the archive; all of it is checked before anything is written")


def add_verify(commands) -> None:
    added = command(commands, "verify", do_verify, "run finished runs again and compare what comes out bit for bit")
    added.add_argument("runs", nargs="+", metavar="RUN", help="a run's id, or the beginning of it")
    added.add_argument("--device", metavar="NAME", help="where, such as cuda:1 (default: the kind it was made on)")
    encoding(added, "folder of the pretrained model behind bert or xlnet, where its name alone does not lead to it")
    modelling(added, "the file of a model outside the repository, as it was for the run")
    added.add_argument(
        "--add-predictions",
        action="store_true",
        help="put predictions that the results folder lacks into it, where they have the sha256 of the record",
    )
    added.add_argument(
        "--workers", type=int, default=1, metavar="N", help="runs at a time, a process each (default: 1)"
    )
    here = names(lambda engine: not engine.remote, "or")
    added.add_argument("--executor", default=DEFAULT, metavar="NAME", help=f"{here} (default: {DEFAULT})")
    added.add_argument("--quiet", action="store_true", help="no progress")
    added.add_argument("--json", action="store_true", help="as JSON")


def add_diff(commands) -> None:
    added = commands.add_parser(
        "diff",
        help="compare two results folders cell by cell",
        description="Compare two results folders cell by cell. Differences are no error: the exit code is 0.",
    )
    added.set_defaults(command=do_diff, parser=added)
    added.add_argument("a", metavar="A", help="a results folder")
    added.add_argument("b", metavar="B", help="another results folder")
    added.add_argument("table", nargs="?", metavar="TABLE", help="table1 to table8 (default: all that have runs)")
    added.add_argument("--data", metavar="DIR", help="folder of corpora (default: $BENCH_DATA or ./data)")
    choosing(added, corpus="all that A or B has runs on")
    beside(added, "take the rows that A or B has no runs of from this results folder")
    mixing(added)
    measuring(added)
    added.add_argument("--json", action="store_true", help="as JSON")


def add_doctor(commands) -> None:
    added = command(
        commands, "doctor", do_doctor, "find what is wrong in a results folder; --repair mends what is safe"
    )
    added.add_argument("--repair", action="store_true", help="delete leftovers, move damaged files to quarantine/")
    storing(added)
    added.add_argument("--json", action="store_true", help="as JSON")


def add_export(commands) -> None:
    added = command(commands, "export", do_export, "write results into one archive, or into JSON that others read")
    added.add_argument(
        "file", metavar="FILE", help="the archive to write, such as results.tar.gz; a folder for --schema"
    )
    added.add_argument("--corpus", metavar="NAME", help="runs on this corpus only (default: all)")
    added.add_argument("--profile", metavar="NAME", help="runs of this profile's studies only: paper, decisive or demo")
    without = added.add_mutually_exclusive_group()
    without.add_argument(
        "--without-labels",
        action="store_true",
        help="leave the corpus's labels, ids and representations out of the predictions",
    )
    without.add_argument("--without-predictions", action="store_true", help="leave out the predictions")
    added.add_argument(
        "--schema",
        metavar="NAME",
        help="every_eval_ever: a JSON file for each study, with its test metrics, in place of an archive",
    )
    added.add_argument("--organization", metavar="NAME", help="who ran them, for --schema (default: unknown)")


def do_verify(options) -> int:
    from studies.engines.progress import Progress
    from studies.lookup import results_root
    from studies.store.run_store import RunStore
    from studies.trust.verify import find_run, verify

    if options.workers < 1:
        raise UserError(f"--workers is {options.workers}; expected at least 1.")
    known_models(options)
    store = RunStore(results_root(options.results))
    records = list({record.id: record for record in (find_run(store, run) for run in options.runs)}.values())
    specs = [record.spec for record in records]
    with Progress(specs, records, workers=options.workers, quiet=options.quiet) as progress:
        found = verify(
            records,
            store,
            data=options.data,
            device=options.device,
            encoders=parse_encoders(options.encoder),
            workers=options.workers,
            executor=options.executor,
            on_event=progress,
            add_predictions=options.add_predictions,
        )
    if options.json:
        print_json([asdict(one) for one in found])
    else:
        for one in found:
            print(f"{one.run}  {one.label}: {one.outcome}")
            for head, lines in (("", one.findings), ("another environment: ", one.environment), ("note: ", one.notes)):
                for line in lines:
                    print(f"  {head}{line}")
    return 0 if all(one.outcome == "identical" for one in found) else 1


def do_diff(options) -> None:
    from studies.lookup import pick_rows, results_root, stored_results, table_spec
    from studies.store.outputs import Labels
    from studies.store.run_store import RunStore
    from studies.trust.diff import as_dicts, diff, text

    table = table_spec(options.table) if options.table else None
    if options.rows is not None and table is None:
        raise UserError("--rows names rows of one table: name the TABLE too.")
    rows = pick_rows(table, named_rows(options)) if table and options.rows is not None else None
    labels = Labels(options.data)
    other = RunStore(stored_results(options.beside), labels=labels) if options.beside else None
    a, b = (RunStore(results_root(folder), beside=other, labels=labels) for folder in (options.a, options.b))
    found = diff(a, b, view_of(options), table=table, rows=rows)
    if options.json:
        print_json(as_dicts(found))
    else:
        print(text(found), end="")


def do_doctor(options) -> int:
    from studies.trust.doctor import examine, repair

    store = store_of(options)
    found = examine(store)
    left = repair(store, found) if options.repair else found
    mended = [finding for finding in found if finding not in left]
    if options.json:
        print_json([{**f.to_dict(), "repaired": f in mended} for f in found])
        return 1 if left else 0
    words = {"quarantine": "moved to quarantine/", "delete": "deleted", "release": "released"}
    for finding in found:
        action = words.get(finding.action or "")
        done = "" if action is None else f" [{action}]" if finding in mended else f" [--repair: {action}]"
        print(f"{finding.kind:11} {finding.path}: {finding.said}{done}")
    count = f"{len(found)} finding{'s' if len(found) != 1 else ''}"
    print(f"{count}, {len(mended)} repaired" if options.repair and found else count if found else "nothing found")
    return 1 if left else 0


def do_export(options) -> None:
    from studies.lookup import profile_of, results_root
    from studies.store.run_store import RunStore
    from studies.trust.archive import export

    if options.profile:
        profile_of(options.profile)
    if options.schema:
        export_schema(options)
        return
    if options.organization:
        raise UserError("--organization is for --schema: the archive names nobody.")
    done = export(
        RunStore(results_root(options.results)),
        options.file,
        corpus=options.corpus,
        profile=options.profile,
        predictions=not options.without_predictions,
        labels=not options.without_labels,
    )
    print(f"{options.file}: {done.runs} runs, {done.studies} studies, {done.size / 2**20:.1f} MiB")
    if done.weights:
        print(
            f"bench: the weights of {done.weights} runs are left out: `bench train` makes them again.", file=sys.stderr
        )
    if done.models:
        print(
            f"bench: the files of models outside the repository are left out: {', '.join(done.models)}. Pass them on "
            "yourself; whoever gets the archive gives them with --model.",
            file=sys.stderr,
        )
    if done.predictions:
        print(
            f"bench: {done.predictions} runs with predictions, which hold the labels of the corpus: publish them only "
            "where its licence lets you (--without-labels leaves the labels out).",
            file=sys.stderr,
        )


def export_schema(options) -> None:
    from studies.document.words import count_of
    from studies.lookup import stored_results
    from studies.store.run_store import RunStore
    from studies.trust.every_eval_ever import SCHEMA_VERSION, export_logs

    check_known("schema", options.schema, SCHEMAS)
    if options.without_predictions or options.without_labels:
        given = "--without-labels" if options.without_labels else "--without-predictions"
        raise UserError(f"{given} is for an archive: with --schema, no predictions are written anyway.")
    done = export_logs(
        RunStore(stored_results(options.results)),
        options.file,
        organization=options.organization or "unknown",
        corpus=options.corpus,
        profile=options.profile,
        data=options.data,
    )
    count = count_of(len(done), "study", "studies")
    print(f"{options.file}: {count}, a file each, in the schema every_eval_ever {SCHEMA_VERSION}")


def do_import(options) -> int:
    from studies.lookup import results_root
    from studies.store.run_store import RunStore
    from studies.trust.archive import import_results

    report = import_results(options.file, RunStore(results_root(options.results)))
    for what, count in report.added.items():
        if count or report.present[what]:
            print(f"{what}: {count} added, {report.present[what]} there already")
    for conflict in report.conflicts:
        print(f"bench: {conflict}", file=sys.stderr)
    return 1 if report.conflicts else 0
