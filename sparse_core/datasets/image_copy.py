"""The encoded images of Parquet files, copied once into one flat file in the home folder and read from there one by one.

Parquet compresses images in row groups of any size, often one for the whole file: to open one image, all of its group would be
unpacked, and kept in memory for the next one. Both the copy and its digest are made in one pass, a few rows at a time.
"""

import array
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from sparse_core.errors import InputError
from sparse_core.paths import atomic_folder, remove, remove_leftovers, require_space, write_json

BATCH_ROWS = 64  # rows of a Parquet file that are in memory at a time
READ_BYTES = 1 << 20  # a column is read from the file in pieces of this size, not whole


@dataclass(frozen=True)
class ImageCopy:
    """Encoded images, one after another in ``stream``; image ``row`` lies from ``offsets[row]`` to ``offsets[row + 1]``.

    ``digest`` is SHA-256 over the images, however files and row groups are cut.
    """

    stream: io.FileIO
    offsets: np.ndarray
    digest: str

    def __getitem__(self, row: int) -> bytes:
        start, end = (int(place) for place in self.offsets[row : row + 2])
        # Not by memory map: a file that something truncates meanwhile would kill the process.
        image = os.pread(self.stream.fileno(), end - start, start)  # threads share the stream, so without seeking
        if len(image) != end - start:
            raise InputError(f"{self.stream.name} was changed while it was read. Start again: it is made again.")
        return image


def open_copy(home: Path, root: Path, files: list[Path], encoded: Iterable[pa.Array], needed: int) -> ImageCopy:
    """The copy of the images in ``files``; made from ``encoded``, about ``needed`` bytes, where it is not there or stale.

    ``root`` is the dataset's path: an older copy of it is removed, and so are those of datasets that are gone.
    """
    folder = home / "datasets" / "images"
    where = str(root.resolve())
    stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    target = folder / hashlib.sha256(json.dumps([where, stamps]).encode()).hexdigest()[:32]
    found = _read(target)
    if found is None:
        remove(target)
        require_space(folder, needed)
        with atomic_folder(target) as temporary:
            digest = _write(temporary, encoded)
            write_json(temporary / "copy.json", {"dataset": where, "digest": digest})
        found = _read(target)
        assert found is not None
    _remove_others(folder, target, where)
    return found


def _write(folder: Path, encoded: Iterable[pa.Array]) -> str:
    """Write values and offsets; returns their digest."""
    hashed, offsets = hashlib.sha256(), array.array("q", [0])
    with open(folder / "values.bin", "wb") as stream:
        for image in _images(encoded):
            stream.write(image)
            hashed.update(image)
            offsets.append(offsets[-1] + len(image))
    places = np.array(offsets, dtype="<i8").tobytes()
    (folder / "offsets.bin").write_bytes(places)
    return hashlib.sha256(hashed.digest() + places).hexdigest()


def _images(encoded: Iterable[pa.Array]) -> Iterator[memoryview]:
    for column in encoded:
        for value in column:
            yield memoryview(value.as_buffer())


def _read(folder: Path) -> ImageCopy | None:
    """The copy in a folder; None where it is not there or not whole."""
    try:
        digest = json.loads((folder / "copy.json").read_text(encoding="utf-8"))["digest"]
        offsets = np.frombuffer((folder / "offsets.bin").read_bytes(), dtype="<i8")
        stream = io.FileIO(folder / "values.bin")
        size = os.fstat(stream.fileno()).st_size
        whole = (offsets[0], offsets[-1]) == (0, size) and bool((np.diff(offsets) >= 0).all())
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return None
    return ImageCopy(stream, offsets, digest) if whole and isinstance(digest, str) else None


def _remove_others(folder: Path, kept: Path, where: str) -> None:
    """Remove stale copies of this dataset and copies of datasets that are gone. A process that reads one keeps its files."""
    remove_leftovers(folder.glob(".*"))
    for other in folder.glob("[!.]*"):
        try:
            dataset = json.loads((other / "copy.json").read_text(encoding="utf-8"))["dataset"]
            stale = dataset == where or not Path(dataset).exists()
        except (OSError, ValueError, TypeError, KeyError):
            stale = True
        if stale and other != kept:
            remove(other)
