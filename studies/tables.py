"""Tables as data: rows name what to run, columns name metrics. A new model is one row here.

HyCon-v2 is HyCon with beta = 0.2, not another model. Which study fills a row is decided in studies.aggregate.choice;
how its runs are set beside the paper's numbers, in studies.aggregate.cells; what a filled table looks like, in
studies.aggregate.render.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hycon.data.manifest import MODALITIES
from hycon.metrics import NARROW


@dataclass(frozen=True)
class Column:
    """metric: key of a record's metrics.  scale: printed value = scale * recorded value."""

    metric: str
    heading: str
    scale: float
    decimals: int
    higher_is_better: bool


@dataclass(frozen=True)
class Row:
    """name: the paper's.  model, text: what studies.registry builds.  config: overrides of the model's defaults.
    quoted: the paper did not run this row but took its numbers from elsewhere.
    study: which of several searches with draws and seeds of their own; 0 in all tables but `tuning`.
    intact: of a variant, the row whose winning configuration it takes (same model and text); None: it is searched.
    measured: not searched at all: the model's default configuration, trained for a fixed time (Table 8).
    named: options whose defaults the name states; like those of `config`, a user may not set them."""

    name: str
    model: str
    text: str
    config: Mapping[str, Any] = field(default_factory=dict)
    quoted: bool = False
    study: int = 0
    intact: Row | None = None
    measured: bool = False
    named: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for rows of several tables that are the same study, whatever each table calls them."""
        return (self.model, self.text, tuple(sorted(self.config.items())), self.study, self.measured)


@dataclass(frozen=True)
class TableSpec:
    """corpus: the paper's.  task: of the corpora that it can be run on.
    beyond: of a table that the paper does not have, a sentence for the caption.  studies: searches a row.
    added: a sentence on rows that a table of the paper does not have.
    robust: its columns need the robustness of the runs, which not every record has.
    published: what others published of its rows is quoted below it: LITERATURE, or the path of a file of one's own."""

    name: str
    title: str
    corpus: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    task: str = "sentiment"  # "emotion"
    beyond: str = ""
    studies: int = 1
    added: str = ""
    robust: bool = False
    published: str = ""


SENTIMENT = (
    Column("acc7", "Acc7", 100, 1, True),
    Column("acc2", "Acc2", 100, 1, True),
    Column("f1", "F1", 100, 1, True),
    Column("mae", "MAE", 1, 3, False),
    Column("corr", "Corr", 1, 3, True),
)


_NARROWED = {"acc7": (Column("acc5", "Acc5", 100, 1, True), Column("acc3", "Acc3", 100, 1, True))}


def emotion_columns(emotions: Sequence[str]) -> tuple[Column, ...]:
    return tuple(
        Column(f"{emotion}_{metric}", f"{emotion.capitalize()} {heading}", 100, 1, True)
        for emotion in (*emotions, "average")
        for metric, heading in (("acc", "Acc"), ("f1", "F1"))
    )


EMOTION = emotion_columns(("happy", "sad", "angry", "neutral"))
COST = (  # the last three are ours: the paper has one number of them, 0.770 s for HyCon-v2's test split (sec. 4.5.8)
    Column("parameters", "Parameters", 1, 0, False),
    Column("train_seconds", "Training [s]", 1, 0, False),
    Column("seconds_per_epoch", "Epoch [s]", 1, 1, False),
    Column("test_seconds", "Test split [s]", 1, 3, False),
    Column("peak_memory_mib", "Peak memory [MiB]", 1, 0, False),
)
ROBUSTNESS = (  # metrics as studies.aggregate.robustness names them; the others are in the figure and in `--json`
    Column("acc2", "Acc2", 100, 1, True),
    *(Column(f"missing_{m}_acc2", f"Acc2 w/o {m}", 100, 1, True) for m in MODALITIES),
    *(Column(f"auc_{m}_acc2", f"Acc2 AUC {m}", 100, 1, True) for m in MODALITIES),
    Column("mae", "MAE", 1, 3, False),
    *(Column(f"auc_{m}_mae", f"MAE AUC {m}", 1, 3, False) for m in MODALITIES),
)
ROBUST_EMOTIONS = (  # of the average over emotions; each emotion's are in `studies.results`
    Column("average_f1", "F1", 100, 1, True),
    *(Column(f"missing_{m}_average_f1", f"F1 w/o {m}", 100, 1, True) for m in MODALITIES),
    *(Column(f"auc_{m}_average_f1", f"F1 AUC {m}", 100, 1, True) for m in MODALITIES),
    Column("average_acc", "Acc", 100, 1, True),
    *(Column(f"auc_{m}_average_acc", f"Acc AUC {m}", 100, 1, True) for m in MODALITIES),
)
V2 = {"beta": 0.2}  # sec. 4.4(3)
PAPER_BUDGET = "50 trials"  # sec. 4.4(1)
LITERATURE = "literature"  # results/literature

BASELINES_AND_HYCON = (
    Row("EF-LSTM-GloVe", "ef_lstm", "glove"),
    Row("EF-LSTM-BERT", "ef_lstm", "bert"),
    Row("LF-LSTM-GloVe", "lf_lstm", "glove"),
    Row("LF-LSTM-BERT", "lf_lstm", "bert"),
    Row("TFN-GloVe", "tfn", "glove"),
    Row("TFN-BERT", "tfn", "bert"),
    Row("LMF-GloVe", "lmf", "glove"),
    Row("LMF-BERT", "lmf", "bert"),
    Row("MFN-GloVe", "mfn", "glove"),
    Row("MFN-BERT", "mfn", "bert"),
    Row("MULT-GloVe", "mult", "glove"),
    Row("MULT-BERT", "mult", "bert"),
    Row("QMF-GloVe", "qmf", "glove", quoted=True),
    Row("GFN-BERT", "gfn", "bert"),
    Row("ICCN-BERT", "iccn", "bert", quoted=True),
    Row("RAVEN-GloVe", "raven", "glove"),
    Row("MAG-BERT", "mag", "bert"),
    Row("MAG-XLNet", "mag", "xlnet"),
    Row("HyCon-BERT", "hycon", "bert"),
    Row("HyCon-XLNet", "hycon", "xlnet"),
    Row("HyCon-v2-BERT", "hycon", "bert", V2),
    Row("HyCon-v2-XLNet", "hycon", "xlnet", V2),
)

ON_EMOTIONS = (  # all with GloVe (sec. 4.5.2); the paper quotes every baseline
    Row("MFN", "mfn", "glove", quoted=True),
    Row("Graph-MFN", "graph_mfn", "glove", quoted=True),
    Row("RAVEN", "raven", "glove", quoted=True),
    Row("LMF", "lmf", "glove", quoted=True),
    Row("MULT", "mult", "glove", quoted=True),
    Row("HFFN", "hffn", "glove", quoted=True),
    Row("TCM-LSTM", "tcm_lstm", "glove", quoted=True),
    Row("HyCon", "hycon", "glove"),
    Row("HyCon-v2", "hycon", "glove", V2),
)


HYCON, HYCON_V2 = (row for row in BASELINES_AND_HYCON if row.name in ("HyCon-BERT", "HyCon-v2-BERT"))


def _hycon(name: str, **config: Any) -> Row:
    """HyCon-BERT with `config`, as in Tables 4 to 7: Table 1's row and its runs, or a variant of it. With a beta it is
    a variant of HyCon-v2."""
    intact = HYCON_V2 if "beta" in config else HYCON
    return Row(name, "hycon", "bert", config, intact=None if config == dict(intact.config) else intact)


ABLATED = (  # as hycon.model.ABLATIONS names them; removed from HyCon-v2: its pair selection
    _hycon("HyCon (W/O Contrast Learning)", iamcl=0.0, iemcl=0.0, scl=0.0),
    _hycon("HyCon (W/O Refinement Loss)", refinement=False),
    _hycon("HyCon (W/O Modality Margin α)", margin=1.0),  # sec. 4.5.3: "where alpha is set to 1"
    _hycon("HyCon (W/O L_IAMCL)", iamcl=0.0),
    _hycon("HyCon (W/O L_IEMCL)", iemcl=0.0),
    _hycon("HyCon (W/O L_SCL)", scl=0.0),
    _hycon("HyCon"),
    _hycon("HyCon-v2 (W/O Positive Selection)", **V2, select_positives=False),
    _hycon("HyCon-v2 (W/O Negative Selection)", **V2, select_negatives=False),
    _hycon("HyCon-v2", **V2),
)
FUSED = (
    _hycon("Concatenation", fusion="concatenation"),
    replace(_hycon("Addition (defaulted)"), named=("fusion",)),
    _hycon("Tensor Fusion", fusion="tensor"),
    _hycon("Graph Fusion", fusion="graph"),
)
MARGINS = (
    _hycon("HyCon (α = 0.5)", margin=0.5),
    _hycon("HyCon (α = 0.7)", margin=0.7),
    replace(_hycon("HyCon (α = 0.8)"), named=("margin",)),
    _hycon("HyCon (α = 0.9)", margin=0.9),
)
LOSSES = (
    _hycon("Triplet Loss", contrastive="triplet"),
    _hycon("Hard-triplet Mining", contrastive="hard-triplet"),
    _hycon("N-pair Loss", contrastive="n-pair"),
    _hycon("Classical Contrastive Loss", contrastive="classical"),
    _hycon("HyCon"),
    _hycon("HyCon-v2", **V2),
)

COSTLY = tuple(
    Row(name, model, "bert", config, measured=True)
    for name, model, config in (
        ("MAG-BERT", "mag", {}),  # the paper prints MAG-XLNet's count here
        ("TFN-BERT", "tfn", {}),
        ("GFN-BERT", "gfn", {}),
        ("MFN-BERT", "mfn", {}),
        ("MULT-BERT", "mult", {}),
        ("HyCon", "hycon", {}),
        ("HyCon-v2", "hycon", V2),
    )
)
MEASURED_BATCH = 48  # sec. 4.5.8: "the same batch size"; HyCon's default
MEASURED_EPOCHS = 3  # chosen here: time grows in proportion, and the mean of 3 dampens the first epoch's allocations

# ---------------------------------------------------------------------------- what the paper leaves open or leaves out

LATE, MAG = (row for row in BASELINES_AND_HYCON if row.name in ("LF-LSTM-GloVe", "MAG-BERT"))
SENSITIVE = (  # one option at a time; what the plain rows are, is Table 1's runs
    _hycon("HyCon"),  # its reduction is searched
    _hycon("HyCon (reduction = sample)", reduction="sample"),  # docs/protocol.md, A2
    _hycon("HyCon (reduction = mean)", reduction="mean"),
    _hycon("HyCon (reduction = sum)", reduction="sum"),
    # The paper: 1; a tenth and tenfold, chosen here.
    _hycon("HyCon (λ1 = λ2 = λ3 = 0.1)", iamcl=0.1, iemcl=0.1, scl=0.1),
    _hycon("HyCon (λ1 = λ2 = λ3 = 10)", iamcl=10.0, iemcl=10.0, scl=10.0),
    _hycon("HyCon (logarithm in eqs. 7 and 10)", log=True),  # A1
    _hycon("HyCon (label 0: in no pair)", zero="exclude"),  # A3
    _hycon("HyCon (label 0: a third class)", zero="third"),
    _hycon("HyCon (read-out: last real step)", readout="last_real"),  # docs/protocol.md, architecture
    _hycon("HyCon (read-out: first step)", readout="cls"),
    _hycon("HyCon (read-out: mean; lineage 2023)", readout="mean"),
    _hycon("HyCon (batch size 16; lineage 2023)", batch_size=16),
    _hycon("HyCon (selection by MSE)", selection="mse"),  # the authors' sibling code
    # The paper: 2e-5 for all layers. What other rows over BERT search around it; Self-MM's and MMIM's beside BERT.
    _hycon("HyCon (learning rate 1e-5; lineage 2023)", lr=1e-5),
    _hycon("HyCon (learning rate 5e-5)", lr=5e-5),
    _hycon("HyCon (learning rate 1e-3 beside BERT)", head_lr=1e-3),
    _hycon("HyCon-v2", **V2),  # its reduction and gamma are searched
    _hycon("HyCon-v2 (γ = 0.01)", **V2, gamma=0.01),  # A9; a small number, as the paper's words have it
    _hycon("HyCon-v2 (γ = 0.1)", **V2, gamma=0.1),
    _hycon("HyCon-v2 (γ = 1)", **V2, gamma=1.0),
    _hycon("HyCon-v2 (β = 0.1)", beta=0.1),  # the paper: 0.2; values around it, chosen here
    _hycon("HyCon-v2 (β = 0.3)", beta=0.3),
    _hycon("HyCon-v2 (β = 0.5)", beta=0.5),
    _hycon("HyCon-v2 (h of IEMCL doubled)", **V2, h_inter="double"),  # A8: without beta there is no h
    _hycon("HyCon-v2 (refinement: literal)", **V2, weighted_refinement="literal"),  # A10
    _hycon("HyCon-v2 (refinement: mean)", **V2, weighted_refinement="mean"),
    LATE,
    Row("LF-LSTM-GloVe (concatenated)", "lf_lstm", "glove", {"combine": "concat"}, intact=LATE),  # MSAF's code
    MAG,  # its authors: MSE and AdamW
    Row("MAG-BERT (L1 loss)", "mag", "bert", {"loss": "l1"}, intact=MAG),
    # without decay: beside Adam it is added to the gradient, a far stronger one than AdamW's; epsilon is Adam's own
    Row("MAG-BERT (Adam without weight decay)", "mag", "bert", {"optimizer": "adam", "weight_decay": 0.0}, intact=MAG),
    Row("MAG-BERT (rate rises to the end)", "mag", "bert", {"warmup": 1.0}, intact=MAG),  # its code until Dec. 2021
)
VECTORS_LR = 1e-3  # hycon.model.TRAINING["vectors"]: 2e-5 suits BERT's weights, and without text there are none
SUBSETS = (
    _hycon("Text", modalities="text"),
    _hycon("Audio", modalities="audio", lr=VECTORS_LR),
    _hycon("Vision", modalities="vision", lr=VECTORS_LR),
    _hycon("Text + audio", modalities="text,audio"),
    _hycon("Text + vision", modalities="text,vision"),
    _hycon("Audio + vision", modalities="audio,vision", lr=VECTORS_LR),
    replace(_hycon("Text + audio + vision"), named=("modalities",)),
)
PERMUTED = {"permuted": "audio,vision"}
TEXT_BERT = {"modalities": "text", "iamcl": 0.0, "iemcl": 0.0, "scl": 0.0}  # HyCon's encoder and head, and nothing else
BEYOND = (  # controls, HyCon, and what came after it; one row a line
    Row("Text-LSTM-GloVe", "lf_lstm", "glove", {"modalities": "text"}),
    _hycon("Text-BERT", **TEXT_BERT),  # its own space has but four batch sizes: what else HyCon searches, it lacks
    _hycon("HyCon-BERT (audio and vision permuted)", **PERMUTED),
    HYCON,
    HYCON_V2,
    Row("MISA", "misa", "bert"),
    Row("Self-MM", "self_mm", "bert"),
    Row("MMIM", "mmim", "bert"),
    Row("TETFN", "tetfn", "bert"),
    Row("ALMT", "almt", "bert"),
)
WINNER = Column("winner_loss", "Winner’s valid. loss", 1, 3, False)  # of the trial that the search chose: one run


def studies_of(rows: Sequence[Row], studies: int) -> tuple[Row, ...]:
    """Each row as often as it is searched: "HyCon-BERT (study 1)", which is the row of other tables, and so on."""
    return tuple(replace(row, name=f"{row.name} (study {k + 1})", study=k) for row in rows for k in range(studies))


def searched_row(row: Row) -> str:
    """The name that the rows of `studies_of` have in common."""
    return row.name.removesuffix(f" (study {row.study + 1})")


def for_emotions(table: TableSpec, emotions: Sequence[str] | None) -> TableSpec:
    """The table with columns for a corpus's own emotions; as it is where they are its columns' in any order, or where
    it has none but averages."""
    columns = emotion_columns(emotions or ())
    if not emotions or table.task != "emotion" or table.robust or set(columns) == set(table.columns):
        return table
    return replace(table, columns=columns)


def for_range(table: TableSpec, bound: float) -> TableSpec:
    """The table with Acc5 and Acc3 in place of Acc7, for sentiment labels in [-1, 1]."""
    return replace(table, columns=narrowed(table.columns)) if bound == NARROW else table


def narrowed(columns: Sequence[Column]) -> tuple[Column, ...]:
    return tuple(c for column in columns for c in _NARROWED.get(column.metric, (column,)))


def with_studies(table: TableSpec, studies: int) -> TableSpec:
    """A table of repeated searches with another number of them."""
    rows = [replace(row, name=searched_row(row)) for row in table.rows if row.study == 0]
    return replace(table, rows=studies_of(rows, studies), studies=studies)


TUNED = (Row("HyCon-BERT", "hycon", "bert"), Row("HyCon-v2-BERT", "hycon", "bert", V2))

TABLES = {
    table.name: table
    for table in (
        TableSpec("table1", "Comparison with baselines", "mosi", SENTIMENT, BASELINES_AND_HYCON),
        TableSpec("table2", "Comparison with baselines", "mosei", SENTIMENT, BASELINES_AND_HYCON),
        TableSpec("table3", "Emotion recognition", "iemocap", EMOTION, ON_EMOTIONS, task="emotion"),
        TableSpec("table4", "Ablation studies", "mosi", SENTIMENT, ABLATED),
        TableSpec("table5", "Fusion strategies of HyCon", "mosi", SENTIMENT, FUSED),
        TableSpec("table6", "Modality margin α", "mosi", SENTIMENT, MARGINS),
        TableSpec("table7", "Loss functions", "mosi", SENTIMENT, LOSSES),
        TableSpec("table8", "Parameters and running time", "mosi", COST, COSTLY),
        TableSpec(
            "sensitivity",
            "Sensitivity to what the paper leaves open",
            "mosi",
            SENTIMENT,
            SENSITIVE,
            beyond="Not in the paper. One option at a time is changed.",
        ),
        TableSpec(
            "modalities",
            "HyCon of some modalities",
            "mosi",
            SENTIMENT,
            SUBSETS,
            beyond="Not in the paper. Absent modalities have no network, no part in fusion and no contrastive pairs "
            f"(one alone: IAMCL only); rows without text have learning rate {VECTORS_LR}, as HyCon on word vectors.",
        ),
        TableSpec(
            "beyond",
            "Controls and successors",
            "mosi",
            SENTIMENT,
            BEYOND,
            beyond="Not in the paper. One budget for all rows; each is chosen on validation, by the loss that trains "
            "it. Text-BERT is HyCon without audio, vision and contrastive losses. Permuted: every utterance has the "
            "audio and vision of another one of its split, in training and in evaluation. Both have the configuration "
            "that HyCon’s search chose.",
            published=LITERATURE,
        ),
        TableSpec(
            "tuning",
            "Spread that tuning adds",
            "mosi",
            (WINNER, *SENTIMENT),
            studies_of(TUNED, 3),  # chosen here: --studies gives another number
            beyond="Not in the paper. Every study is a search with draws and seeds of its own, and its winner’s "
            "runs; the sd of so few studies is a rough number.",
            studies=3,
        ),
        TableSpec(
            "robustness",
            "Robustness to missing modalities",
            "mosi",
            ROBUSTNESS,
            (*BASELINES_AND_HYCON, *(row for row in BEYOND if row not in BASELINES_AND_HYCON)),
            beyond="Not in the paper. The runs of Table 1 and of `beyond`: trained on intact data, then tested once "
            "more without (w/o) a modality, and with audio, vision or text dropped at a share of each utterance’s "
            "words, the same words for all models. AUC: the mean of the metric as that share goes from 0 to 1 "
            "(docs/robustness.md).",
            robust=True,
        ),
        TableSpec(
            "robustness_emotions",
            "Robustness of emotion recognition to missing modalities",
            "iemocap",
            ROBUST_EMOTIONS,
            ON_EMOTIONS,
            task="emotion",
            beyond="Not in the paper. The runs of Table 3, tested as those of `robustness` are. F1 and Acc: the means "
            "over emotions. w/o: without a modality; AUC: the mean of the metric as the share of words without it goes "
            "from 0 to 1 (docs/robustness.md).",
            robust=True,
        ),
    )
}
