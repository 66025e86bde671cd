"""`command`, and the options that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

TABLE_OF_MODELS = "table1"  # whose rows and columns a model is shown with where no TABLE is named


def command(commands, name: str, function: Callable[[Any], int | None], text: str) -> argparse.ArgumentParser:
    """A command with the options that all have. `text` is its help; `function` takes the parsed options."""
    added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    added.set_defaults(command=function, parser=added)
    added.add_argument("--results", metavar="DIR", help="results folder (default: $BENCH_RESULTS or ./results)")
    added.add_argument("--data", metavar="DIR", help="folder of corpora (default: $BENCH_DATA or ./data)")
    added.add_argument("--offline", action="store_true", help="use no network (also: BENCH_OFFLINE=1)")
    return added


def naming(added: argparse.ArgumentParser, default: str | None = None) -> None:
    """The argument TABLE, and how many searches each row has. default: the table where TABLE is left out."""
    said = "table1 to table8 or another of `bench list tables`; or the file of a table or of a campaign (FILE.toml)"
    also = f" (default: {default})" if default else f"; with --model: {TABLE_OF_MODELS} if left out"
    added.add_argument("table", nargs="?", default=default, metavar="TABLE", help=said + also)
    added.add_argument("--studies", type=int, metavar="N", help="for table tuning: searches per row (default: 3)")


def modelling(
    added: argparse.ArgumentParser, help: str = "a model of your own: its rows, beside those of --rows"
) -> None:
    """The option that makes models outside the repository known."""
    added.add_argument("--model", metavar="FILE", action="append", default=[], help=help)


def choosing(
    added: argparse.ArgumentParser, rows: bool = True, campaign: bool = True, corpus: str = "the table's"
) -> None:
    """Options of every command that picks results or runs. campaign: whether a campaign file may set them.
    corpus: the one that is taken by default, in words."""
    if campaign:
        added.add_argument("--campaign", metavar="FILE", help="take options from a campaign file (see `bench init`)")
    added.add_argument("--corpus", metavar="NAME", help=f"corpus (default: {corpus}, or the profile's)")
    added.add_argument(
        "--profile", metavar="NAME", help="paper (default), decisive (the paper's search, ten seeds) or demo"
    )
    if rows:
        added.add_argument("--rows", metavar="A,B", help="rows by the paper's names or by patterns: TFN-BERT,'HyCon*'")
    encoding(
        added, "pretrained model of the BERT or XLNet rows: a Hugging Face name or a local folder (bert=roberta-base)"
    )


def encoding(added: argparse.ArgumentParser, text: str) -> None:
    """The option of every command that reads text with pretrained models."""
    added.add_argument("--encoder", metavar="KIND=NAME", action="append", default=[], help=text)


def picking(added: argparse.ArgumentParser) -> None:
    """Options of every reading command: which of several studies fills a row."""
    added.add_argument(
        "--study", metavar="ID", action="append", default=[], help="show this study (see `bench list studies`)"
    )
    added.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="only studies run with this option"
    )
    added.add_argument("--epochs", type=int, metavar="N", help="only studies run with --epochs N")
    added.add_argument("--patience", type=int, metavar="N", help="only studies run with --patience N")


def measuring(parser) -> None:
    parser.add_argument(
        "--protocol",
        default="paper",
        metavar="NAME",
        help="how metrics are counted (docs/protocol.md): paper (default), all, mult, mmsa, has0 or non0; of labels in "
        "[-1, 1]: paper, sims, sims_non0, has0 or non0",
    )


def mixing(added: argparse.ArgumentParser) -> None:
    """The option of every command that averages runs."""
    added.add_argument(
        "--mixed", action="store_true", help="average also runs of different data, versions or environments"
    )


def beside(
    added: argparse.ArgumentParser, help: str = "take rows that are not run here from this results folder"
) -> None:
    """The option of commands that set published records of others beside one's own."""
    added.add_argument("--with", dest="beside", metavar="FOLDER", help=help)


def captioning(added: argparse.ArgumentParser) -> None:
    """The option of every command that prints a table of results as text."""
    added.add_argument(
        "--notes", action="store_true", help="print the whole caption of a text table, not its short form"
    )


def storing(added: argparse.ArgumentParser) -> None:
    """The option of every command that takes or shows leases."""
    added.add_argument(
        "--storage",
        metavar="URL",
        help="a database for Optuna's studies and for who does which run: postgresql://USER@HOST/DATABASE (default: "
        "$BENCH_STORAGE, else files)",
    )
