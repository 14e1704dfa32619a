"""Write Fashion-MNIST as the shipped transfers used it: the first 10,000 training images and all 10,000 test images.

    python -m tools.fashion_mnist FOLDER fashion_mnist

FOLDER holds the four ``.gz`` files of Xiao, Rasul and Vollgraf, such as Debian's ``/usr/share/datasets/fashion-mnist`` (package
``dataset-fashion-mnist``). The second folder gets ``train.parquet`` and ``test.parquet``, with columns image (PNG) and label.
"""

import gzip
import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

SIDE = 28  # pixels
HEADER = {"images": 16, "labels": 8}  # bytes
IMAGES = 10_000
SPLITS = {"train": "train", "t10k": "test"}


def main(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, split in SPLITS.items():
        images = _bytes(source / f"{prefix}-images-idx3-ubyte.gz", "images").reshape(-1, SIDE, SIDE)[:IMAGES]
        labels = _bytes(source / f"{prefix}-labels-idx1-ubyte.gz", "labels")[:IMAGES]
        rows = pd.DataFrame({"image": [_png(image) for image in images], "label": labels.astype(np.int64)})
        rows.to_parquet(folder / f"{split}.parquet", index=False)


def _bytes(file: Path, content: str) -> np.ndarray:
    with gzip.open(file) as stream:
        return np.frombuffer(stream.read(), np.uint8, offset=HEADER[content])


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
