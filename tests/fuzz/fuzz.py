"""Coverage-guided fuzzing of what reads files from others. Not part of the tests: `pip install atheris`, then

    python tests/fuzz/fuzz.py pickle -max_total_time=600        # or npz, record, study, archive, vectors

An input that ends in anything but the clear errors is a finding; libFuzzer writes it to crash-*.
"""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["hycon", "studies", "zipfile", "tarfile", "json"]):
    from hycon.data.arrays import Damaged, read_npz
    from hycon.data.glove import read_vectors
    from hycon.data.pickles import _load
    from hycon.errors import UserError
    from studies.archive import import_results
    from studies.plan import read_study
    from studies.runs import RunRecord
    from studies.store import RunStore

SCRATCH = Path(tempfile.mkdtemp())
MALFORMED = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
)  # what readers of JSON may raise, and their callers catch


def record(content: bytes) -> None:
    RunRecord.from_dict(json.loads(content))


def file(content: bytes) -> Path:
    path = SCRATCH / "input"
    path.write_bytes(content)
    return path


TARGETS = {
    "pickle": (lambda content: _load(io.BytesIO(content), "input"), (UserError,)),
    "npz": (lambda content: dict(read_npz(content)), (Damaged,)),
    "record": (record, MALFORMED),
    "study": (read_study, (UserError, *MALFORMED)),
    "archive": (lambda content: import_results(file(content), RunStore(SCRATCH / "results")), (UserError,)),
    "vectors": (lambda content: read_vectors(file(content), ["a", "the"]), (UserError,)),
}

if __name__ == "__main__":
    target, expected = TARGETS[sys.argv.pop(1)]

    def one(content: bytes) -> None:
        with contextlib.suppress(*expected):
            target(content)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
