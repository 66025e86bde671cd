"""`bench new` and `bench check-model`: for authors of models."""

from __future__ import annotations

from dataclasses import asdict

from studies.cli.output import print_json


def add(commands) -> None:
    added = commands.add_parser(
        "new",
        help="write the file of a model of your own, to begin with",
        description="Write NAME.py: a small model that works, with what each part is for. It overwrites nothing.",
    )
    added.set_defaults(command=do_new)
    added.add_argument("what", choices=("model",), metavar="model", help="what to write: model")
    added.add_argument("name", metavar="NAME", help="the model's name, and its file's")
    added.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help="where to (default: here)")
    checked = commands.add_parser(
        "check-model",
        help="check that a model does what every model must",
        description="Check a model on small made-up data, with each kind of text that it takes: shapes, gradients, "
        "padding, overfitting, repeatability, its search. Exit code 1 where something fails.",
    )
    checked.set_defaults(command=do_check)
    checked.add_argument("model", metavar="MODEL", help="a model's file, or a name of `bench list models`")
    checked.add_argument(
        "--text", metavar="NAME", action="append", help="only this text front-end (default: all that the model takes)"
    )
    checked.add_argument("--json", action="store_true", help="as JSON")


def do_new(options) -> None:
    from studies.authors.new_model import new_model

    file = new_model(options.name, options.folder)
    print(f"{file}\nNext: `bench check-model {file}`, then `bench run --model {file} --profile demo`")


def do_check(options) -> int:
    import torch

    from studies.authors.check import check_model, line, summary
    from studies.authors.rows import known_model

    torch.set_num_threads(1)  # tiny networks: more threads wait for each other
    model = known_model(options.model)
    said = None if options.json else lambda finding: print(line(finding), flush=True)
    findings = check_model(model, options.text, said)
    if options.json:
        print_json([{**asdict(finding), "passed": finding.passed} for finding in findings])
    else:
        print(summary(model, findings))
    return 0 if all(finding.passed for finding in findings) else 1
