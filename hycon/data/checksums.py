"""Whether the files of a corpus are those of its manifest. They are read once for a command, not by each of its runs.

$BENCH_CORPUS_DIGESTS (JSON) keeps what was read, for the processes that a command starts too: the sha256 of a file
under its path, device, inode, size, and times. Whatever writes to a file or replaces it changes one of these, and it is
read anew. The time of change cannot be set by hand, so `cp -p` and rsync are noticed as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from hycon.data.manifest import Manifest, corpus_folder, read_manifest
from hycon.errors import UserError
from hycon.files import kept_digests, sha256_file

KEPT = "BENCH_CORPUS_DIGESTS"
SETTLED = (
    0.1  # seconds, chosen here: a file system's clock ticks every 1 to 10 ms, and within a tick two writes look alike
)


def check_corpus(name: str, root: str | os.PathLike | None = None) -> Manifest:
    """The manifest of a corpus whose files are its own. Raises UserError as `read_manifest` and `check_files` do."""
    manifest = read_manifest(name, root)
    check_files(corpus_folder(name, root), manifest)
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raises UserError where a file beside the manifest is missing or not the one that was imported."""
    for file, expected in manifest.files.items():
        path = folder / file
        try:
            found = _sha256(path) if Path(file).name == file and path.is_file() else None
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
        if found is None:
            raise UserError(f"{path} is missing: import the corpus again.")
        if found != expected:
            raise UserError(f"{path} does not have the sha256 of its manifest: it was changed; import it again.")


def _sha256(path: Path) -> str:
    """Of a file as it is now. Raises OSError."""
    state, known = _state(path), kept_digests(KEPT)
    if state not in known:
        settled = time.time() - path.stat().st_ctime > SETTLED
        found = sha256_file(path)
        if not settled or _state(path) != state:  # it may change once more without looking different
            return found
        known[state] = found
        os.environ[KEPT] = json.dumps(known)
    return known[state]


def _state(path: Path) -> str:
    s = path.stat()
    seen = [str(path.resolve()), s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:32]
