"""The hash that identifies a dataset by its content, cached for as long as the files stay unchanged."""

import hashlib
import json
from pathlib import Path

from sparse_core.datasets.contents import readable
from sparse_core.paths import write_text


def content_hash(home: Path, root: Path, files: list[Path]) -> str:
    """SHA-256 over the files' bytes and their names below ``root``.

    Cached in ``home``; a changed list of names, sizes or modification times computes it again.
    """
    with readable(root):
        stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    listing = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()
    cached = home / "datasets" / "hashes" / f"{listing[:32]}.txt"
    if cached.is_file():
        return cached.read_text(encoding="utf-8")
    digest = hashlib.sha256()
    for file in files:
        with readable(file):
            content = file.read_bytes()
        digest.update(f"{file.relative_to(root)}\0".encode() + hashlib.sha256(content).digest())
    write_text(cached, digest.hexdigest())
    return digest.hexdigest()
