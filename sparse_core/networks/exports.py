"""Where exported files of backbones wait to be downloaded: ``exports/<hash>/`` in the user's home, for a day. Needs no torch.

``sizes.json`` there holds the bytes of each file by its name, and those of the plain file when it is compressed (``ZIPPED``).
"""

from pathlib import Path

from sparse_core import stored
from sparse_core.paths import remove_leftovers

PLAIN, PACKED, COMPACT = "plain.safetensors", "packed.safetensors", "compact.safetensors"
ONNX, COMPACT_ONNX = "network.onnx", "compact.onnx"
ZIPPED = "zipped"
ZIP_TOOL = "deflate, Python's zlib, level 6"
SIZES_FILE = "sizes.json"


def folder(home: Path, content: str) -> Path:
    """The folder of the files of a network with this content hash."""
    return home / "exports" / Path(content).name


def sizes(home: Path, content: str) -> dict[str, int]:
    """The bytes of each exported file of a network, by its name, and of ``ZIPPED``; empty where nothing was exported, or where a
    file is missing."""
    entry = folder(home, content)
    found = stored.read_json(entry / SIZES_FILE, {PLAIN: int, PACKED: int, ZIPPED: int})
    if found is None or not all(isinstance(size, int) for size in found.values()):
        return {}
    missing = [name for name in found if name != ZIPPED and not (entry / Path(name).name).is_file()]
    return {} if missing else found


def sweep(home: Path) -> None:
    """Delete what was exported more than a day ago."""
    remove_leftovers((home / "exports").glob("*"))
