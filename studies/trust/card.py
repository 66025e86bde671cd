"""The model card of `bench train`: what a model is, what it was measured on, and what it is not for. Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from hycon.data.manifest import SPLITS, Manifest
from hycon.data.repeats import remarks
from hycon.metrics import protocol_for
from hycon.saved import Description
from studies.document import markdown
from studies.document.blocks import Block, Bullets, Document, Grid, Notice, Section, Text, headings, numbers
from studies.document.words import NOTHING, settings
from studies.registry import MODELS
from studies.store.recompute import flat
from studies.store.record import RunRecord

CAUTION = (
    "It was trained for research on methods, on acted or online monologues in one language. Nothing here says how well "
    "it works on other people, languages, topics or recordings; the numbers above are of its own corpus's test split.",
    "A sentiment or an emotion that it predicts is a guess about an utterance, not a fact about a person. Do not "
    "decide anything about a person by it.",
    "The weights are derived from the corpus, and from the text encoder if there is one: their licences bind whoever "
    "passes the folder on. With word vectors, the folder also holds the list of the corpus's words.",
)
SYNTHETIC = "SYNTHETIC DATA: the corpus was made up by the suite. The model's predictions say nothing about speech."
USE = """
## Use

```
bench predict THIS_FOLDER MY_UTTERANCES
```

```python
import hycon

model = hycon.load_model("THIS_FOLDER")
model([{"text": "what a lovely film"}])  # with audio and vision, (rows, features) each, if it reads them
```
"""


def card(
    record: RunRecord,
    model: Description,
    manifest: Manifest,
    *,
    chosen: Sequence[str] = (),
    changed: Sequence[str] = (),
) -> str:
    """chosen: how the run was chosen among others.  changed: files of its code that have changed since the run."""
    spec = record.spec
    title = MODELS[spec.model].title.partition(" (")[0].partition(";")[0] if spec.model in MODELS else spec.model
    text = f"{spec.encoder['name']} as text encoder ({spec.text})" if spec.encoder else f"text as {spec.text}"
    banner: list[Block] = [Notice(SYNTHETIC)] if manifest.synthetic else []
    if model.differs:
        banner += [
            Notice(f"NOT THE WEIGHTS OF RUN {record.id}: they were trained again with another result."),
            Bullets(tuple(model.differs)),
        ]
    sections = (
        Section("what", "What it is", (Bullets((*_identity(record, model), *chosen)), Text(settings(spec.config)))),
        Section("reads", "What it reads and gives", (Bullets(tuple(_reads(model))),)),
        Section(
            "data", "Data", (Bullets((*_data(manifest, spec.text), *dict.fromkeys((*manifest.notes, *record.notes)))),)
        ),
        Section("numbers", "Measured", tuple(_measured(record, manifest, changed))),
        Section("caution", "Caution", (Bullets(CAUTION),)),
    )
    lead = f"{title}, {text}, trained on corpus {spec.corpus}."
    return markdown.write(Document(f"{spec.model}-{spec.text} on {spec.corpus}", lead, tuple(banner), sections)) + USE


def _identity(record: RunRecord, model: Description) -> list[str]:
    spec = record.spec
    found = [
        f"Run {record.id}, seed {spec.seed}, version {spec.version} of {spec.model}, suite {spec.suite}, commit "
        f"{record.commit or 'unknown'}.",
        f"Weights: sha256 {model.weights_sha256}; {record.parameters or 0:,} parameters.",
        f"Trained on {record.device} with torch {record.environment.get('torch', 'unknown')}; best epoch "
        f"{record.best_epoch} of {len(record.curve)}, chosen by the validation loss.",
    ]
    if spec.encoder:
        found.append(f"Text encoder: {spec.encoder['name']}, sha256 {spec.encoder['sha256']}, fine-tuned.")
    return found


def _reads(model: Description) -> list[str]:
    reads = ", ".join(f"{m} ({model.dims[m]} features a row)" for m in model.reads if m != "text" or model.own_vectors)
    words = "" if model.own_vectors or "text" not in model.reads else "words of a sentence"
    found = [f"Reads {' and '.join(filter(None, (words, reads)))}. What it does not read may be missing."]
    if model.aligned and len(model.reads) > 1:
        found.append("An utterance has one row of each modality per word, as its training data had.")
    longest = max(model.lengths.values())
    found.append(f"Of longer utterances it reads the first {longest} steps.")
    if permuted := str(model.spec["training"].get("permuted", "")):
        found.append(f"A control: it was trained with other utterances' {permuted.replace(',', ' and ')}.")
    if model.emotions:
        found.append(f"Gives two logits, no and yes, for each of {', '.join(model.emotions)}.")
    else:
        low, high = model.labels
        found.append(f"Gives one number; training labels ran from {low:g} (negative) to {high:g} (positive).")
    return found


def _data(manifest: Manifest, text: str) -> list[str]:
    sizes = "/".join(str(manifest.sizes.get(split, 0)) for split in SPLITS)
    source = f"{manifest.source.get('file', 'unknown')} ({manifest.source.get('format', 'unknown')} format)"
    found = [f"{manifest.name}: {sizes} utterances for training, validation and test; from {source}."]
    if manifest.vectors and text == "glove":
        found.append(f"Word vectors: {manifest.vectors.get('file')}, {manifest.vectors.get('dim')} dimensions.")
    return [*found, *remarks(manifest)]


def _measured(record: RunRecord, manifest: Manifest, changed: Sequence[str]) -> list[Block]:
    splits = {split: record.metrics.get(split, {}) for split in ("valid", "test")}
    protocol = "emotions" if manifest.emotions else protocol_for("paper", manifest.label_bound)
    found = {split: dict(flat(values.get(protocol, {}))) for split, values in splits.items()}
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    rows = tuple((name, *(_number(found[split].get(name)) for split in ("valid", "test"))) for name in names)
    sizes = {split: manifest.sizes.get(split, 0) for split in found}
    heads = (*headings("Metric"), *numbers(*(f"{split} (n = {sizes[split]})" for split in found)))
    said: list[Block] = [Grid("metrics", f"This one run, by protocol {protocol}, as fractions.", heads, rows)]
    said.append(Text("One run is one draw: the table of its row has the mean and the spread over seeds."))
    if changed:
        said.append(Text(f"Code has changed since the run, under the same version: {', '.join(changed)}."))
    return said


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"
