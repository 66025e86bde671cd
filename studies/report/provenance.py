"""Where the numbers come from: machines, versions, commits, text encoders, and the data with its checksums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hycon.data.manifest import SPLITS, Manifest
from studies.document.blocks import Block, Bullets, Grid, Notice, Part, Section, Text, headings, numbers, wide
from studies.document.words import NOTHING, count_of
from studies.report.scope import Scope
from studies.store.record import RunRecord

UNKNOWN = "not recorded"


def provenance(scope: Scope) -> Section:
    records = scope.records
    blocks: list[Block] = []
    if records:
        environments = _environments(records)
        blocks.append(Part("environments", "Environments", (_environment_said(environments), environments)))
    else:
        blocks.append(Notice("No run, hence no environment."))
    blocks.append(Part("data", "Data", _data(scope)))
    blocks += _encoders(records)
    if scope.unshown:
        blocks.append(Part("unshown", "Also in this results folder", (_unshown(scope),)))
    return Section("provenance", "Environments and data", tuple(blocks))


def environment_of(record: RunRecord) -> tuple[str, str, str]:
    """(device, versions, commit) of a run, in words."""
    versions = ", ".join(f"{name} {version}" for name, version in record.environment.items())
    return record.device or UNKNOWN, versions or UNKNOWN, record.commit or UNKNOWN


def days(records: Iterable[RunRecord]) -> str:
    """ "2026-11-27", or the first and the last day; a dash where none is recorded."""
    known = sorted(record.started[:10] for record in records if record.started)
    return NOTHING if not known else known[0] if known[0] == known[-1] else f"{known[0]} to {known[-1]}"


def _environments(records: Iterable[RunRecord]) -> Grid:
    counted = Counter((*environment_of(record), str(record.spec.threads)) for record in records)
    return Grid(
        "environment-list",
        "One line for each machine, set of versions and commit of this suite; + marks a modified commit.",
        (*headings("Device"), *wide("Versions"), *headings("Commit"), *numbers("Threads", "Runs")),
        tuple((*environment, str(n)) for environment, n in counted.items()),
    )


def _environment_said(grid: Grid) -> Text:
    devices = len({row[0] for row in grid.rows})
    versions = len({row[1] for row in grid.rows})
    if devices == versions == 1:
        return Text("All runs are of one machine class and one set of versions.")
    return Text(
        f"The runs come from {count_of(devices, 'device')} and {count_of(versions, 'set')} of versions: identical "
        "specifications give identical bits only within one of them."
    )


def _data(scope: Scope) -> tuple[Block, ...]:
    if not scope.manifests:
        return (Notice("No manifest of a corpus is at hand."),)
    lines = tuple(_corpus_line(manifest) for manifest in scope.manifests.values())
    held = {m.name: m.sha256 for m in scope.manifests.values()}
    older = sorted({r.spec.corpus for r in scope.records if held.get(r.spec.corpus, r.spec.data) != r.spec.data})
    warning = (Notice(f"Some runs are on earlier contents than the manifest's: {', '.join(older)}."),) if older else ()
    grid = Grid(
        "corpus-list",
        "Corpora of the runs. Checksum: the sha256 that identifies the corpus, part of every run's identity.",
        (
            *headings("Corpus", "Utterances (train, valid, test)", "Feature sizes", "Aligned"),
            *numbers("Non-finite values set to 0"),
            *wide("Checksum", "Source"),
        ),
        lines,
    )
    notes = tuple(f"{m.name}: {note}" for m in scope.manifests.values() for note in m.notes)
    return (*warning, grid, *((Bullets(notes),) if notes else ()))


def _corpus_line(m: Manifest) -> tuple[str, ...]:
    source = ", ".join(f"{key} {value}" for key, value in m.source.items())
    return (
        f"{m.name} (synthetic)" if m.synthetic else m.name,
        ", ".join(f"{m.sizes[split]:,}" for split in SPLITS if split in m.sizes) or NOTHING,
        ", ".join(f"{modality} {size}" for modality, size in m.dims.items()) or NOTHING,
        m.aligned,
        str(sum(sum(counts.values()) for counts in m.nonfinite.values())),
        m.sha256,
        source or NOTHING,
    )


def _encoders(records: Iterable[RunRecord]) -> list[Block]:
    found = Counter(
        (r.spec.text, r.spec.encoder.get("name", ""), r.spec.encoder.get("sha256", ""))
        for r in records
        if r.spec.encoder
    )
    if not found:
        return []
    grid = Grid(
        "encoder-list",
        "Pretrained text encoders behind the BERT and XLNet rows; the checksum covers all that is loaded.",
        (*headings("Encoder", "Front-end"), *numbers("Runs"), *wide("Checksum")),
        tuple((name, text, str(n), sha) for (text, name, sha), n in sorted(found.items())),
    )
    return [Part("encoders", "Text encoders", (grid,))]


def _unshown(scope: Scope) -> Bullets:
    counted = Counter((study.corpus, study.profile) for study in scope.unshown)
    return Bullets(
        tuple(
            f"{count_of(n, 'study', 'studies')} on {corpus}, profile {profile}, in none of the tables above "
            "(another setting, an older search, or an ablation)"
            for (corpus, profile), n in sorted(counted.items())
        )
    )
