"""Coverage-guided fuzzing of what reads files from others. Not part of the tests: `pip install atheris`, then

    python tests/fuzz/fuzz.py pickle -max_total_time=600        # or npz, record, study, archive, vectors

It begins from a sound file of each kind. An input that ends in anything but the clear errors is a finding; libFuzzer
writes it to crash-*.
"""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

for known in ("pickle", "json", "zipfile", "tarfile"):  # instrumented only when imported anew
    sys.modules.pop(known, None)
with atheris.instrument_imports(include=["hycon", "studies", "zipfile", "tarfile", "json", "pickle"]):
    import pickle

    import numpy as np
    from builders import fill

    from hycon.data.arrays import Damaged, read_npz
    from hycon.data.importers.pickles import _load
    from hycon.data.importers.word_vectors import read_vectors
    from hycon.errors import UserError
    from studies.store.arrays import npz_bytes
    from studies.store.record import RunRecord
    from studies.store.run_store import RunStore
    from studies.store.study import read_study
    from studies.trust.archive import export, import_results

SCRATCH = Path(tempfile.mkdtemp())


def record(content: bytes) -> None:
    RunRecord.from_json(content, "0" * 16, "done")


def file(content: bytes) -> Path:
    path = SCRATCH / "input"
    path.write_bytes(content)
    return path


TARGETS = {
    "pickle": (lambda content: _load(io.BytesIO(content), "input"), (UserError,)),
    "npz": (lambda content: dict(read_npz(content)), (Damaged,)),
    "record": (record, (UserError, ValueError)),
    "study": (read_study, (UserError, ValueError)),
    "archive": (lambda content: import_results(file(content), RunStore(SCRATCH / "results")), (UserError,)),
    "vectors": (lambda content: read_vectors(file(content), ["a", "the"]), (UserError,)),
}


def sound(name: str) -> bytes:
    """A file of that kind as the suite writes it, or as others do."""
    store = RunStore(SCRATCH / "sound")
    study = fill(store, [0.1, 0.2])
    arrays = {"a": np.arange(12.0).reshape(3, 4), "b": np.array(["x", "yz"])}
    if name == "archive":
        export(store, SCRATCH / "sound.tar.gz")
    return {
        "pickle": lambda: pickle.dumps(
            {"train": {"text": arrays["a"], "id": ["v_1", "v_2"], "label": [np.float32(1)]}}
        ),
        "npz": lambda: npz_bytes(arrays),
        "record": lambda: (store.folder(study.runs[0]) / "record.json").read_bytes(),
        "study": lambda: (store.root / "studies" / f"{study.id}.json").read_bytes(),
        "archive": lambda: (SCRATCH / "sound.tar.gz").read_bytes(),
        "vectors": lambda: b"a 0.25 -1.5 3e-2\nthe 1 2 3\n",
    }[name]()


if __name__ == "__main__":
    name = sys.argv.pop(1)
    target, expected = TARGETS[name]
    corpus = Path(tempfile.mkdtemp())
    (corpus / "sound").write_bytes(sound(name))
    sys.argv.append(str(corpus))

    def one(content: bytes) -> None:
        with contextlib.suppress(*expected):
            target(content)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
