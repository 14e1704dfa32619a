"""Small images, folders and Parquet files of them for tests."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torchvision.transforms import v2


def image(value: int, mode: str = "RGB", size: tuple[int, int] = (12, 9)) -> Image.Image:
    return Image.new("RGB", size, (value, value, value)).convert(mode)


def encoded(value: int) -> bytes:
    """A PNG of one grey value."""
    stream = io.BytesIO()
    image(value).save(stream, "PNG")
    return stream.getvalue()


def image_folder(root: Path, counts: dict[str, int]) -> Path:
    """A folder per class with that number of images."""
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            image(40 * number + index).save(root / name / f"{index}.png")
    return root


def parquet_file(file: Path, labels: list, names: Sequence[str] = (), images: list[bytes] | None = None) -> Path:
    """A Parquet file with one image per label; ``names`` are stored in its metadata as Hugging Face does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    images = images or [encoded(value % 250) for value in range(len(labels))]
    table = pa.table({"image": images, "label": labels})
    if names:
        info = {"info": {"features": {"label": {"names": list(names)}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, file)
    return file


def torchvision_steps(resize: int, crop: int, mean: Sequence[float], std: Sequence[float]) -> v2.Compose:
    """Resize, crop and normalise PIL images, as the paper's own pipeline does."""
    tensors = (v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std))
    return v2.Compose([v2.Resize(resize), v2.CenterCrop(crop), *tensors])
