"""Why a row's numbers answer another question than the paper's do: each reason rules its verdicts out.

What is compared with the paper is the corpus and its sizes, the text encoder, the metrics, the search, and the protocol
of the runs, which `suite` counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hycon.data.manifest import PAPER, SPLITS, named_after
from studies.store.record import RunRecord, RunSpec
from studies.tables import PAPER_BUDGET, Row, TableSpec

# What the paper calls GloVe, BERT and XLNet (facts: exact parameter counts; 300-d in sec. 4.4(2)): words for the
# caption, and the names that mean it.
PAPER_ENCODERS = {
    "glove": ("300-d GloVe", r".*\(300-d\)"),
    "bert": ("bert-base-uncased", r"(google-bert/)?bert-base-uncased"),
    "xlnet": ("xlnet-base-cased", r"(xlnet/)?xlnet-base-cased"),
}
# Corpus -> sizes that differ from the paper's and rule nothing out, each with its reason: what is missing is under half
# a percent, and it is what the only public files of these features hold.
ALLOWED_SIZES: dict[str, dict[tuple[int, ...], str]] = {
    "mosi": {
        (1281, 229, 685): "MAG-BERT's public file, the only one with these features, lacks four utterances",
        (1283, 229, 686): "one training segment of CMU's own labels has no length",
    },
}


@dataclass(frozen=True)
class CorpusInfo:
    """What a caption must say of the data. notes: one phrase for each stand-in; any of them rules verdicts out.

    encoders: front-end -> its word vectors, where the records do not name them (`glove`).
    sizes: utterances for training, validation and test; None where no manifest says so.
    constant: protocol -> metric -> what a prediction that never changes reaches on the test split, as fractions; of an
    emotion corpus the metrics are named as `measures` has them, under "emotions". None where it is not known.
    one_row: the modalities with one row an utterance.
    """

    name: str
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    encoders: Mapping[str, str] = field(default_factory=dict)
    sizes: tuple[int, ...] | None = None
    constant: Mapping[str, Mapping[str, float]] | None = None
    one_row: tuple[str, ...] = ()


def beside_paper(table: TableSpec, corpus: CorpusInfo) -> bool:
    """Whether the paper's numbers stand beside ours: not on a corpus of one's own, of which the paper knows nothing.

    They do on the table's corpus, on one named after it (mosi_resampled), and on the demo's, which stands for it.
    """
    return not table.beyond and (corpus.synthetic or named_after(corpus.name, [table.corpus]) is not None)


def obstacles(
    table: TableSpec, row: Row, records: Sequence[RunRecord], corpus: CorpusInfo, protocol: str, budget: str
) -> tuple[str, ...]:
    """Why the row's finished runs cannot be compared with the paper's; empty where they can.

    budget: of the search, in words; "" where it is not known.
    """
    found = ["synthetic data"] if corpus.synthetic else []
    found += other_corpus(table, corpus)
    encoder = encoder_of(row, records, corpus)
    if not is_paper_encoder(row.text, encoder):
        wanted = PAPER_ENCODERS[row.text][0] if row.text in PAPER_ENCODERS else "one of the paper's"
        found.append(f"the text encoder is {encoder_in_words(encoder)}, not {wanted}")
    if protocol != "paper":
        found.append(f"the metrics are those of protocol {protocol}")
    found += earlier_protocol(records)
    found += distinct((*corpus.notes, *(note for record in records for note in record.notes)))
    if budget not in ("", PAPER_BUDGET):
        found.append(f"run {budget}" if row.measured else f"a search of {budget}, not {PAPER_BUDGET}")
    return tuple(found)


def other_corpus(table: TableSpec, corpus: CorpusInfo) -> list[str]:
    """In what the corpus is not the table's: its name, and the sizes of one that is named after it."""
    found = [] if corpus.name == table.corpus else [f"the corpus is {corpus.name}, not {table.corpus}"]
    sizes = other_sizes(table.corpus, corpus) if named_after(corpus.name, [table.corpus]) else ""
    return [*found, sizes] if sizes else found


def other_sizes(papers: str, corpus: CorpusInfo) -> str:
    """How the splits differ from those of the paper's corpus `papers`; "" where they do not, or it prints none."""
    wanted = PAPER[papers]["sizes"] if papers in PAPER else None
    if corpus.synthetic or wanted is None or corpus.sizes in (wanted, *ALLOWED_SIZES.get(papers, ())):
        return ""
    if corpus.sizes is None:
        return f"the sizes of corpus {corpus.name} are not known"
    return f"the corpus has {in_words(corpus.sizes)} utterances, the paper's {in_words(wanted)}"


def in_words(sizes: Sequence[int]) -> str:
    """ "1284/229/686": for training, validation and test."""
    return "/".join(map(str, sizes))


def sizes_of(counts: Mapping[str, int]) -> tuple[int, ...] | None:
    """In the order of the splits; None where one is not counted."""
    return tuple(counts[split] for split in SPLITS) if set(SPLITS) <= set(counts) else None


def earlier_protocol(records: Iterable[RunRecord]) -> list[str]:
    """One phrase for each earlier version of the conditions under which runs were made; empty where all are today's."""
    found = sorted({record.spec.suite for record in records if record.spec.suite < RunSpec.suite})
    return [f"run under an earlier protocol (suite {suite})" for suite in found]


def encoder_of(row: Row, records: Sequence[RunRecord], corpus: CorpusInfo) -> str:
    names = distinct(record.spec.encoder["name"] for record in records if record.spec.encoder)
    return " and ".join(names) or corpus.encoders.get(row.text, "no pretrained encoder")


def is_paper_encoder(text: str, name: str) -> bool:
    return text in PAPER_ENCODERS and re.fullmatch(PAPER_ENCODERS[text][1], name) is not None


def encoder_in_words(name: str) -> str:
    """An encoder's name, and what the suite's own is, whose name does not say it."""
    return f"{name} (tiny, random weights)" if name == "demo" else name


def distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
