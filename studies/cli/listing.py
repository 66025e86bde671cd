"""`bench list`: what there is to run and to read. Imports no torch."""

from __future__ import annotations

from typing import Any

from hycon.errors import UserError, check_known
from studies.cli.options import command
from studies.cli.output import print_grid, print_json

KINDS = ("trial", "seed")
FILTERS = ("row", "kind", "corpus", "failed")


def add(commands) -> None:
    what = "list what there is: models, corpora, tables, ablations, claims, literature, studies or runs"
    added = command(commands, "list", do_list, what)
    kinds = ", ".join(LISTS)
    added.add_argument(
        "what", nargs="?", default="models", choices=LISTS, metavar="WHAT", help=f"{kinds} (default: models)"
    )
    added.add_argument("--row", metavar="A,B", help="of runs: only of these rows; * stands for anything")
    added.add_argument("--kind", metavar="KIND", help="of runs: only trial (of a search) or seed (of its winner)")
    added.add_argument("--corpus", metavar="NAME", help="of runs and studies: only on this corpus")
    added.add_argument("--failed", action="store_true", help="of runs: only those that failed")
    added.add_argument("--claims", default="paper", metavar="WHOSE", help="of claims: paper (default), or beyond")
    added.add_argument("--json", action="store_true", help="as JSON")


def do_list(options) -> None:
    from studies.aggregate.inventory import run_lines, study_lines

    _check_filters(options)
    items = LISTS[options.what](options)
    if options.json:
        print_json(items)
    elif not items:
        filtered = any(getattr(options, name, None) for name in FILTERS)
        print(f"no such {options.what}" if filtered else f"no {options.what} yet")
    else:
        print_grid({"runs": run_lines, "studies": study_lines}.get(options.what, list)(items))


def _check_filters(options) -> None:
    """Raises UserError for a filter that the list does not have: it would silently do nothing."""
    takes = {"runs": {"row", "kind", "corpus", "failed"}, "studies": {"corpus"}}.get(options.what, set())
    given = [name for name in FILTERS if getattr(options, name, None)]
    if wrong := [name for name in given if name not in takes]:
        lists = "runs and studies" if wrong[0] == "corpus" else "runs"
        raise UserError(f"--{wrong[0]} is for lists of {lists}, not of {options.what}.")
    if getattr(options, "kind", None):
        check_known("kind of run", options.kind, KINDS)


def models(options) -> list[dict[str, Any]]:
    from studies.registry import MODELS

    return [{"name": name, "title": entry.title, "text": list(entry.text)} for name, entry in MODELS.items()]


def corpora(options) -> list[dict[str, Any]]:
    from hycon.data.manifest import list_corpora

    return [
        {
            "name": m.name,
            "task": m.task,
            **m.sizes,
            "dims": [f"{modality} {size}" for modality, size in m.dims.items()],
            "vectors": m.vectors and m.vectors.get("dim"),
            "aligned": m.aligned,
            "notes": m.notes,
        }
        for m in list_corpora(options.data)
    ]


def tables(options) -> list[dict[str, Any]]:
    from studies.tables import TABLES

    return [
        {"name": table.name, "title": table.title, "corpus": table.corpus, "rows": len(table.rows)}
        for table in TABLES.values()
    ]


def ablations(options) -> list[dict[str, Any]]:
    """What `bench ablate --remove` can remove; table4: the row of the paper's Table 4 that is the same, if one is."""
    from studies.registry import MODELS, literal
    from studies.tables import ABLATED

    rows = [(row.model, dict(row.config), row.name) for row in ABLATED]
    return [
        {
            "model": model,
            "name": name,
            "removes": (literal(model, "REMOVED") or {})[name],
            "sets": [f"{k}={v}" for k, v in changes.items()],
            "table4": next((row for of, config, row in rows if (of, config) == (model, changes)), None),
        }
        for model in MODELS
        if getattr(options, "model", None) in (None, model)
        for name, changes in (literal(model, "ABLATIONS") or {}).items()
    ]


def claims(options) -> list[dict[str, Any]]:
    from studies.claims.file import CLAIMS, claims_file, load_claims
    from studies.claims.kinds import contests

    check_known("set of claims", options.claims, CLAIMS)

    return [
        {
            "id": claim.id,
            "table": claim.table,
            "corpus": claim.corpus,
            "kind": claim.kind,
            "comparisons": len(contests(claim)),
            "place": claim.place,
            "quote": claim.quote,
        }
        for claim in load_claims(claims_file(options.claims))
    ]


def literature(options) -> list[dict[str, Any]]:
    from studies.literature import quotations

    return [{**vars(q), "value": q.value if options.json else f"{q.value} †"} for q in quotations()]


def studies(options) -> list[dict[str, Any]]:
    from studies.aggregate.inventory import list_studies

    found = list_studies(_store(options), options.data)
    return [item for item in found if options.corpus in (None, item["corpus"])]


def runs(options) -> list[dict[str, Any]]:
    from studies.aggregate.inventory import list_runs

    rows = [row.strip() for row in options.row.split(",")] if options.row else None
    return list_runs(_store(options), rows=rows, kind=options.kind, corpus=options.corpus, failed=options.failed)


def _store(options):
    from studies.lookup import stored_results
    from studies.store.run_store import RunStore

    return RunStore(stored_results(options.results))


LISTS = {
    "models": models,
    "corpora": corpora,
    "tables": tables,
    "ablations": ablations,
    "claims": claims,
    "literature": literature,
    "studies": studies,
    "runs": runs,
}
