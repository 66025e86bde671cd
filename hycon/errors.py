"""The two ways in which things go wrong on purpose."""


class UserError(Exception):
    """A caller's mistake, said in one sentence: what was found, what was expected, what to do. `bench` exits with 2."""


class NonFiniteLoss(Exception):
    """Training diverged. The run is recorded as failed with this message and never as a number."""

    def __init__(self, epoch: int, step: int):
        super().__init__(f"non-finite loss at epoch {epoch}, step {step}")


MOST_OFFERED = 20  # names, where none is near; a results folder may have thousands of runs
WORD = 3  # letters from which a part of a name is taken as meant; chosen here


def install(extra: str) -> str:
    """The command that installs an optional part of the suite, for a message. It is on no package index."""
    return f'`pip install -e ".[{extra}]" -c constraints.txt` in the clone'


def check_known(what: str, name: object, choices, of: str = "") -> None:
    """Raises UserError where `name` is none of `choices`. what: its noun.  of: whose, " of table1"."""
    if name not in choices:
        raise UserError(f"Unknown {what} {name!r}{of}; nearest: {nearest(str(name), choices)}.")


def nearest(word: str, choices) -> str:
    """'tfn, mfn' for 'tnf': the names to offer when `word` is none of `choices`; first those that hold it."""
    from difflib import get_close_matches

    choices = sorted(map(str, choices))
    by_lower = {choice.lower(): choice for choice in choices}
    close = get_close_matches(word.lower(), by_lower, n=3, cutoff=0.5)
    holding = [name for name in by_lower if word and word.lower() in name]  # "1": table1
    close = list(dict.fromkeys([*holding, *close] if len(word) >= WORD else close or holding))[:3]
    if close or len(choices) <= MOST_OFFERED:
        return ", ".join([by_lower[name] for name in close] or choices) or "none"
    return f"{', '.join(choices[:MOST_OFFERED])} and {len(choices) - MOST_OFFERED} more"
