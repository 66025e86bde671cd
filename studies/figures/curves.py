"""Learning curves: training and validation loss per epoch of every seeded run, a pair of panels for each row.

The two losses are different numbers: what is minimised on the training split holds the model's own losses (contrastive
terms, in the reduction that the search chose) and dropout; on the validation split it is the task loss alone. So each
has a panel of its own.
"""

from __future__ import annotations

from studies.aggregate.cells import RowResult
from studies.document.words import listed
from studies.figures.drawing import BLACK, BLUE, ORANGE, PLAIN, WIDTH, Drawing, Source, canvas, wrapped

ACROSS = 5  # pairs of panels in a line


def draw(source: Source) -> Drawing:
    """Raises UserError where no row has a finished run with a curve."""
    rows = [row for row in source.result.rows if any(record.curve for record in row.records)]
    if not rows:
        raise source.missing(listed(row.row.name for row in source.result.rows) if source.asked else "any row")
    left_out = [row.row.name for row in source.result.rows if row not in rows and row.status != "reference"]
    numbers = [
        {
            "row": row.row.name,
            "index": i,
            "seed": record.spec.seed,
            "run": record.id,
            "epochs": len(record.curve),
            "best_epoch": record.best_epoch,
            "best_valid_loss": record.valid_loss,
            "last_valid_loss": record.curve[-1]["valid_loss"],
            "first_train_loss": record.curve[0]["train_loss"],
            "last_train_loss": record.curve[-1]["train_loss"],
        }
        for row in rows
        for i, record in enumerate(row.records, start=1)
        if record.curve
    ]
    caption = [
        "Each thin line is one seeded run; a dot marks its best epoch, the one with the lowest validation loss, whose "
        "weights are tested.",
        "Above: the mean training loss of an epoch, which holds the model's own losses, contrastive terms included, "
        "and can be negative; below: the task loss over the whole validation split. Scales differ between panels.",
        *([f"Without finished runs and left out: {', '.join(left_out)}."] if left_out else []),
    ]
    epochs = [number["best_epoch"] for number in numbers if number["best_epoch"] is not None]
    alt = f"Training and validation loss over epochs for {len(rows)} rows, {len(numbers)} runs."
    alt += f" The best epoch lies between {min(epochs)} and {max(epochs)}." if epochs else ""
    return Drawing(_picture(rows), caption, alt, numbers, [row.row.name for row in rows])


def _picture(rows: list[RowResult]):
    across = min(ACROSS, max(len(rows), 2))
    lines = -(-len(rows) // across)
    picture = canvas(1.8 * lines + 0.2)
    axes = picture.subplots(2 * lines, across, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, row in enumerate(rows):
        line, column = divmod(i, across)
        above, below = axes[2 * line][column], axes[2 * line + 1][column]
        _panels(above, below, row)
        above.set_title(wrapped(row.row.name, 0.8 * WIDTH / across), **PLAIN)
        if column == 0:
            above.set_ylabel("train")
            below.set_ylabel("validation")
    picture.supxlabel("epoch", fontsize="medium")
    return picture


def _panels(above, below, row: RowResult) -> None:
    for axis in (above, below):
        axis.set_axis_on()
        axis.locator_params(axis="y", nbins=3)
        axis.locator_params(axis="x", nbins=4, integer=True)
    above.tick_params(labelbottom=False)
    for record in row.records:
        if not record.curve:
            continue
        epochs = [point["epoch"] for point in record.curve]
        above.plot(epochs, [point["train_loss"] for point in record.curve], color=ORANGE, lw=0.7, ls=(0, (4, 1)))
        valid = [point["valid_loss"] for point in record.curve]
        below.plot(epochs, valid, color=BLUE, lw=0.7)
        if record.best_epoch in epochs:
            best = epochs.index(record.best_epoch)
            below.plot([epochs[best]], [valid[best]], marker="o", ms=2.8, color=BLACK, zorder=3)
    longest = max(len(record.curve) for record in row.records)
    for axis in (above, below):
        axis.set_xlim(0.5, longest + 0.5)
