"""Campaign files: the options of `bench run` in one TOML file, for this command and for those that read its results.

The keys are the names of the options of `bench run`, and `table`. What a key may hold follows from the option: see
`keys`. Nothing here lists options by hand; EXAMPLES only says what `bench init` shows of them.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from hycon.errors import UserError, check_known
from hycon.files import read_toml
from studies.cli.arguments import Parser
from studies.cli.output import write_file
from studies.cli.run import add_run

ENDING = ".toml"  # of what stands in the place of TABLE
NOT_KEYS = ("help", "campaign")
LISTS = ("A,B", "LIST")  # metavars of options that take names with commas between them
TEXTS: Any = str | Annotated[list[str], msgspec.Meta(min_length=1)]
NUMBERS: dict[str, tuple[Any, str]] = {  # metavars of options that take a text, and of numbers too
    "N": (int | str, "a whole number, or a text"),
    "SECONDS": (int | float | str, "a number, or a text"),
}
HEAD = """## A campaign: options of `bench run` in one file.
##
##   bench run {file} --dry-run
##   bench run {file}
##   bench table {file}
##
## status takes it as table does; show, figure, claims, report, train and diff by --campaign {file}. A command takes the
## options that it has.
##
## A line that begins with one # is an option that is not set: take the # away to set it. The keys are the options of
## `bench run --help`. The command line overrides the file. Paths start at the working directory.

table = "table1"  # or several, one after the other: ["table1", "table4"]
"""
# In the order in which `bench init` writes them. A key that is not here comes last, with a value made up from its type.
EXAMPLES = {
    "rows": '["HyCon*", "TFN-BERT"]',
    "corpus": '"mosi"',
    "profile": '"demo"',
    "encoder": {"bert": '"bert-base-uncased"', "xlnet": '"xlnet-base-cased"'},
    "trials": "50",
    "seeds": "5",
    "epochs": "50",
    "patience": "20",
    "set": {"lr": "1e-5", "precision": '"tf32"'},
    "own-search": "true",
    "executor": '"local"',
    "workers": "2",
    "devices": '["cuda:0", "cuda:1"]',
    "slots": '"auto"',
    "mps": '"no"',
    "time-limit": "7200",
    "checkpoint-every": "600",
    "cluster": '"cluster.toml"',
    "cluster-set": {"partition": '"gpu"', "time": "120"},
    "address": '"auto"',
    "log": '"tensorboard"',
    "storage": '"postgresql://USER@HOST/DATABASE"',
    "results": '"results"',
    "data": '"data"',
    "studies": "3",
    "format": '"md"',
    "model": '["my_model.py"]',
}


def add(commands) -> None:
    added = commands.add_parser(
        "init",
        help="write a campaign file: all options of `bench run` to be set in one place",
        description="Write a campaign file, in which the options of `bench run` stand with a comment on each.",
    )
    added.set_defaults(command=do_init)
    added.add_argument("file", nargs="?", default="campaign.toml", metavar="FILE", help="default: campaign.toml")
    added.add_argument("--force", action="store_true", help="write over a file that is there")


def do_init(options) -> None:
    file = Path(options.file)
    if file.suffix != ENDING:
        raise UserError(f"{file} does not end in {ENDING}, by which `bench run` knows a campaign file.")
    if file.exists() and not options.force:
        raise UserError(f"{file} is there already: give another name, or --force to write over it.")
    write_file(file, template(options.file).encode())
    print(f"{file}\nEdit it, then: `bench run {file} --dry-run`")


def expand(root: Parser, arguments: Sequence[str] | None, options: argparse.Namespace) -> list[argparse.Namespace]:
    """What is to be carried out: `options` themselves, or with a campaign file one set of options for each of its
    tables. What stands on the command line goes before the file.

    root, arguments: the parser of all commands, and what it made `options` of.  Raises UserError.
    """
    instead = str(getattr(options, "table", None)).endswith(ENDING)
    file = options.table if instead else getattr(options, "campaign", None)
    if file is None or (instead and isinstance(_parsed(file).get("table"), dict)):  # a table's definition
        return [options]
    given = read(file)
    options.parser.set_defaults(**{dest: value for dest, value in given.items() if hasattr(options, dest)})
    options = root.parse_args(arguments)
    if instead:
        options.table = given.get("table") or _without_table(file)
    if not isinstance(getattr(options, "table", None), list):
        return [options]
    return _each_table(file, options)


def _each_table(file: str, options: argparse.Namespace) -> list[argparse.Namespace]:
    """One set of options a table, with those of `rows` that it has. Each name or pattern must be of one of the tables,
    and each table must have a row: no mistake is found after hours."""
    from studies.lookup import pick_rows, table_spec

    if len(options.table) > 1 and getattr(options, "output", None):
        raise UserError(f"{file} has {len(options.table)} tables, and --output is one file: name one TABLE.")
    specs = {name: table_spec(name, getattr(options, "studies", None)) for name in options.table}
    rows = getattr(options, "rows", None)
    asked = rows.split(",") if rows else []
    has = {name: [row for row in asked if _has_row(spec, row)] for name, spec in specs.items()}
    found = []
    for name, spec in specs.items():
        one = copy.copy(options)
        one.table = name
        if asked:
            nowhere = [row for row in asked if not any(row in own for own in has.values())]
            one.rows = ",".join(has[name])
            pick_rows(spec, nowhere or has[name] or asked)  # UserError for what no table has, and a table without a row
        found.append(one)
    return found


def _has_row(table: Any, row: str) -> bool:
    from studies.lookup import pick_rows

    try:
        return bool(pick_rows(table, [row]))
    except UserError:
        return False


def _without_table(file: str):
    raise UserError(f'{file} has no key table: write table = "table1", or name the TABLE and give --campaign {file}.')


def keys() -> dict[str, argparse.Action]:
    """Key of a campaign file -> the argument of `bench run` that it stands for."""
    commands = Parser().add_subparsers(parser_class=Parser)
    add_run(commands)
    actions = commands.choices["run"]._actions
    named = {(a.option_strings or [a.dest])[-1].removeprefix("--"): a for a in actions}
    return {key: action for key, action in named.items() if key not in NOT_KEYS}


def read(file: str) -> dict[str, Any]:
    """The options in a file: dest -> value, as the command line would give it; `table` may be a list.

    Raises UserError for a file that cannot be read, an unknown key, and a value of the wrong type.
    """
    known = keys()
    found = {}
    for key, value in _parsed(file).items():
        check_known("key", key, known, f" in {file}")
        found[known[key].dest] = _value(f"{file}: {key}", value, known[key])
    return found


def _parsed(file: str) -> dict[str, Any]:
    return read_toml(Path(file), file, f"; `bench init {file}` writes one")


def _value(name: str, value: Any, action: argparse.Action) -> Any:
    """What the command line would give for it. name: for messages."""
    kind, words = _kind(action)
    try:
        found = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{name} is {_shown(value)}; expected {words}.") from error
    if isinstance(found, dict):
        return [f"{key}={_text(f'{name}.{key}', item)}" for key, item in found.items()]
    if isinstance(action.default, list):
        return [found] if isinstance(found, str) else found
    if action.metavar in LISTS and isinstance(found, list):
        return ",".join(found)
    return str(found) if action.metavar in NUMBERS and action.type is None else found


def _kind(action: argparse.Action) -> tuple[Any, str]:
    """The type of what a key may hold, and that in words."""
    metavar = str(action.metavar)
    if isinstance(action.default, list) and "=" in metavar:
        return dict[str, Any], "a table, such as {" + metavar.lower().replace("=", ' = "') + '"}'
    if isinstance(action.default, list) or metavar in LISTS:
        return TEXTS, "a list of texts"
    if action.nargs == 0:
        return bool, "true or false"
    if action.dest == "table":
        return TEXTS, "a text, or a list of texts"
    if action.choices:
        return Literal[tuple(action.choices)], " or ".join(action.choices)
    if action.type in (int, float):
        return action.type, "a whole number" if action.type is int else "a number"
    return NUMBERS.get(metavar, (str, "a text"))


def _text(name: str, value: Any) -> str:
    """The VALUE of KEY=VALUE on the command line."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float | list):
        try:
            return json.dumps(value)
        except (TypeError, ValueError):
            pass
    raise UserError(f"{name} is {_shown(value)}; expected a number, a text, true or false.")


def _shown(value: Any) -> str:
    text = "a table" if isinstance(value, dict) else repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def template(file: str = "campaign.toml") -> str:
    """A campaign file in which every option is there, commented out."""
    known = keys()
    order = [key for key in EXAMPLES if key in known] + [key for key in known if key not in EXAMPLES]
    lines = [line for key in order if key != "table" for line in _lines(key, known[key])]
    return HEAD.format(file=file) + "\n" + "\n".join(lines) + "\n"


def _lines(key: str, action: argparse.Action) -> list[str]:
    shown = EXAMPLES.get(key)
    pairs = shown if isinstance(shown, dict) else {"": shown or _example(action)}
    settings = [f"#{key}.{name} = {value}" if name else f"#{key} = {value}" for name, value in pairs.items()]
    return [f"{settings[0]}  # {action.help}", *settings[1:]]


def _example(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "true"
    if isinstance(action.default, list):
        return json.dumps([action.metavar])
    return "1" if action.type in (int, float) else json.dumps(action.default or action.metavar)
