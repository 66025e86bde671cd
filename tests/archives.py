"""The files of a folder, and archives of `bench export` that somebody has changed."""

import hashlib
import io
import json
import tarfile
from pathlib import Path


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in Path(root).rglob("*") if p.is_file()}


def repacked(archive, target, change, rehash=True, **header):
    """`archive` with its members changed: change(dict of name -> bytes) -> the same; header: fields of all TarInfos."""
    with tarfile.open(archive) as given:
        content = {m.name: given.extractfile(m).read() for m in given.getmembers()}
    about = json.loads(content.pop("manifest.json"))
    content = change(content)
    if rehash:
        about["files"] = {n: {"sha256": hashlib.sha256(c).hexdigest(), "size": len(c)} for n, c in content.items()}
    raw = {"manifest.json": json.dumps(about).encode(), **dict(sorted(content.items()))}
    return written(target, [(tarfile.TarInfo(name), data) for name, data in raw.items()], **header)


def written(target, members, **header):
    with tarfile.open(target, "w:gz") as archive:
        for info, data in members:
            info.size = len(data)
            for key, value in header.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return target
