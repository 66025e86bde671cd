"""Results folders of which a report can be written, a page's tags, and a figure that nobody had to draw."""

import dataclasses
from html.parser import HTMLParser

from hycon.data.manifest import Manifest
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore
from studies.store.study import Study, remember_corpus, save_study
from studies.tables import TABLES, Row

NASTY = "<script>alert(1)</script> \" onload='x' & </td></table><img src=http://evil.example/x>"
TFN, HYCON = (row for row in TABLES["table1"].rows if row.name in ("TFN-BERT", "HyCon-BERT"))
BERT = {"name": "bert-base-uncased", "sha256": "ab" * 32}
SPACE = {"lr": (0.001, 0.002), "batch_size": (16, 32, 64)}
DRAWS = [{"lr": 0.001, "batch_size": 16}, {"lr": 0.002, "batch_size": 32}]


def manifest(name="mosi", **changes) -> Manifest:
    known = {
        "source": {"file": "mosi.pkl", "format": "mag"},
        "sizes": {"train": 1284, "valid": 229, "test": 686},
        "dims": {"audio": 74, "vision": 47},
        "lengths": {"audio": 50, "vision": 50},
        "aligned": "word",
        "nonfinite": {"train": {"audio": 3}},
        "files": {"corpus.safetensors": "0" * 64},
    }
    return Manifest(name, "sentiment", **{**known, **changes})


def record(row: Row, seed: int, acc2: float, held: Manifest, **known) -> RunRecord:
    spec = RunSpec(row.model, 1, row.text, held.name, held.sha256, dict(row.config), {}, seed=seed, encoder=BERT)

    def all_of(value):
        return {"paper": {"acc7": 0.4, "acc2": value, "f1": value, "mae": 0.8, "corr": 0.7}}

    found = {
        "metrics": {"valid": all_of(acc2 + 0.01), "test": all_of(acc2)},
        "valid_loss": 0.7 + seed / 100,
        "parameters": 1000 + seed,
        "seconds": 36.0,
        "seconds_per_epoch": 2.0,
        "test_seconds": 0.5,
        "peak_memory_mib": 300.0,
        "device": "cpu (x86_64, Made-up)",
        "environment": {"python": "3.11.7", "torch": "2.13.0"},
        "commit": "c" * 40,
        "started": f"2026-01-0{1 + seed % 9}T00:00:00+00:00",
    }
    return RunRecord(spec, "done", **{**found, **known})


def fill(root, row=HYCON, held=None, *, trials=2, failed=0, seeds=(0.80, 0.82), profile="paper", **known) -> RunStore:
    """A study of `row`: trials of which the first wins and `failed` more that failed, and a seeded run per accuracy."""
    store, held = RunStore(root), held or manifest()
    remember_corpus(store, held)
    tried = [store.put(record(row, 100 + i, 0.7, held, **known), {}).id for i in range(trials)]
    for i in range(failed):
        spec = dataclasses.replace(record(row, 200 + i, 0.0, held).spec)
        tried.append(store.put_failed(spec, NASTY).id)
    runs = [store.put(record(row, i, acc2, held, **known), {}).id for i, acc2 in enumerate(seeds)]
    draws = (DRAWS * len(tried))[: len(tried)]
    study = Study(
        row.model, row.text, held.name, held.sha256, dict(row.config), {}, BERT, "cpu", profile, draws, tried, 0, runs
    )
    space = {name: list(choices) for name, choices in SPACE.items()}
    save_study(store, dataclasses.replace(study, space=space))
    return store


@dataclasses.dataclass
class Drawn:
    title: str = "Drawn"
    caption: str = "A <caption>."
    alt: str = 'Two "points".'
    content: bytes = b"<svg onload='alert(1)'/>"


class Page(HTMLParser):
    """Tags in order, ids, links, and what scripts hold."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts.append(data)

    def all(self, *names: str) -> list[dict]:
        return [attributes for tag, attributes in self.tags if tag in names]
