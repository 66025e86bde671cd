"""`bench list`: what there is to run and to read. Imports no torch."""

from __future__ import annotations

from typing import Any

from studies.cli.shared import command, print_grid, print_json


def add(commands) -> None:
    added = command(commands, "list", do_list, "list what there is: models, corpora, tables, ablations, claims or runs")
    kinds = ", ".join(LISTS)
    added.add_argument("what", nargs="?", default="models", choices=LISTS, metavar="WHAT", help=kinds)
    added.add_argument("--json", action="store_true", help="as JSON")


def do_list(options) -> None:
    items = LISTS[options.what](options)
    if options.json:
        print_json(items)
    elif not items:
        print(f"no {options.what} yet")
    else:
        print_grid(items)


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
    from studies.registry import MODELS
    from studies.tables import TABLES

    return [
        {
            "name": table.name,
            "title": table.title,
            "corpus": table.corpus,
            "rows": len(table.rows),
            "built": sum(row.model in MODELS for row in table.rows),
        }
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
        for name, changes in (literal(model, "ABLATIONS") or {}).items()
    ]


def claims(options) -> list[dict[str, Any]]:
    from studies.claims.file import load_claims
    from studies.claims.kinds import contests

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
        for claim in load_claims()
    ]


def runs(options) -> list[dict[str, Any]]:
    from studies.lookup import results_root
    from studies.store.run_store import RunStore

    store = RunStore(results_root(options.results))
    return [
        {
            "id": record.id,
            "status": record.status,
            "model": record.spec.model,
            "text": record.spec.text,
            "corpus": record.spec.corpus,
            "valid_loss": record.valid_loss,
            "best_epoch": record.best_epoch,
            "seconds": record.seconds and round(record.seconds, 1),
            "reason": record.reason,
        }
        for record in [*store.records(), *store.failures()]
    ]


LISTS = {
    "models": models,
    "corpora": corpora,
    "tables": tables,
    "ablations": ablations,
    "claims": claims,
    "runs": runs,
}
