"""What a folder or Parquet file holds, found without opening an image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from sparse_core.errors import InputError

# Shown as Markdown too, so without stars.
LAYOUTS = "images in D/train/CLASS/ and D/test/CLASS/, or in D/CLASS/, or Parquet files with columns image and label"

Place = TypeVar("Place")  # where an image is: a file, or a Parquet file and its row


@dataclass(frozen=True)
class Contents(Generic[Place]):
    """The images' places with their labels, by split. ``files`` are all files that the content hash covers."""

    class_names: list[str]
    train: list[tuple[Place, int]]
    test: list[tuple[Place, int]]
    layout: str
    files: list[Path]

    def require_usable(self, path: Path) -> None:
        """Raises InputError where no classifier can be trained and tested on these images."""
        train, test = ({label for _, label in images} for images in (self.train, self.test))
        if not train or not test:
            which = "images in both splits" if train or test else "any images"
            raise InputError(f"Expected {which} in {path}, found none. Lay it out as {LAYOUTS}.")
        if len(train) < 2:
            raise InputError(f"{path} has only one class; a classifier needs at least two. Add a folder for another.")
        if not train & test:
            raise InputError(f"No class of the test split of {path} has an image in training. Split the images again.")
