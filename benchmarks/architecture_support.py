"""Architectures tried end to end: a file of random weights is recognised, imported, probed, analysed, written as ONNX and run.

    python -m benchmarks.architecture_support [--names resnet101,timm/resnet50d] [--size 64] [--limit 0.001]

For each network of torchvision or timm, whole with seven classes, random BatchNorm statistics and a quarter of each
convolution's filters 0: ``inspect_seconds`` to read and recognise the file among all names; ``probe`` the accuracy of a linear
probe on 48 images of two colours at ``--size`` pixels; ``multiply_adds`` (millions) and the share of ``removable`` filters;
``difference`` of each engine's features to PyTorch's, relative to the largest. Expected: every name is recognised, and every
difference is at most ``--limit``. Prints a line per network on stderr, then one JSON line.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks import harness
from sparse_core.catalog import ENGINES
from sparse_core.engines import availability, compiling
from sparse_core.networks import backbones, importing, inspection, onnx_export, public_networks, structure_analysis
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import ProbeSpec
from sparse_core.transfer import runs

NAMES = (
    "resnet101,resnext50_32x4d,wide_resnet50_2,timm/resnet50d,vgg16_bn,densenet121,mobilenet_v2,mobilenet_v3_large,"
    "efficientnet_b0,convnext_tiny,regnet_y_400mf,regnet_x_400mf,timm/regnety_004,timm/convnext_tiny,timm/tf_efficientnet_b0"
)
CLASSES = 7


def whole_network(name: str) -> nn.Module:
    """A network with its classifier, random weights, and BatchNorm statistics that differ from channel to channel."""
    torch.manual_seed(0)
    if name.startswith(public_networks.TIMM):
        library = public_networks.timm_library()
        network = library.create_model(name.removeprefix(public_networks.TIMM), num_classes=CLASSES)
    else:
        network = public_networks.torchvision_models().get_model(name, num_classes=CLASSES)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
        elif isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.data[: len(layer.weight) // 4] = 0
    return network.eval()


def images(folder: Path) -> Path:
    """A data set of two classes of noise, one redder."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 8)):
        for label, red in (("grey", 0), ("red", 90)):
            place = folder / "images" / split / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 160, (64, 64, 3)) + np.array([red, 0, 0])
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return folder / "images"


def tried(name: str, size: int, folder: Path, dataset: Path) -> dict[str, Any]:
    """The figures of one network."""
    file = folder / f"{name.replace('/', '-')}.pth"
    torch.save(whole_network(name).state_dict(), file)
    found: dict[str, Any] = {"name": name, "megabytes": round(file.stat().st_size / 1e6)}
    seen: dict[str, Any] = {}
    found["inspect_seconds"] = round(harness.seconds(lambda: seen.update(inspection.inspect(file))), 2)
    found["recognised"] = [seen["architecture"], *seen["alternatives"]]
    home, known = folder / "home", file.stem.replace(".", "-")
    importing.add(home, file, known, architecture=name)
    spec = ProbeSpec(
        known, str(dataset), settings=Hyperparameters(epochs=20, learning_rate=0.1), image_size=size, engine="torch"
    )
    outcome = runs.run_probe(home, spec, (0,), lambda _: None)
    record = runs.Records(home).read(outcome["runs"][0])
    found["probe"] = record.result["top1_final"]
    backbone = backbones.load(home, known)
    structure = structure_analysis.analyse(backbone.module, size)
    found["multiply_adds"] = round(structure.multiply_adds / 1e6)
    found["removable"] = round(structure.filters_dead_share, 3)
    onnx_export.backbone(backbone.module, size, folder / "network.onnx")
    found["difference"] = differences(backbone.module, size)
    file.unlink()
    return found


def differences(module: nn.Module, size: int) -> dict[str, float | str]:
    """By engine: the largest difference to PyTorch, or why there is none."""
    found: dict[str, float | str] = {}
    for engine in ENGINES:
        if availability.missing(engine) is not None:
            continue
        try:
            with compiling.compile(engine, module, size, 4) as compiled:
                found[engine] = float(f"{compiling.difference(compiled, module):.1e}")
        except Exception as error:
            found[engine] = f"{type(error).__name__}: {str(error)[:200]}"
    return found


def main() -> None:
    given = harness.parser(__doc__, names=NAMES, size=64, limit=1e-3).parse_args()
    table = []
    with tempfile.TemporaryDirectory() as folder:
        dataset = images(Path(folder))
        for name in given.names.split(","):
            try:
                table.append(tried(name, given.size, Path(folder), dataset))
            except Exception as error:
                table.append({"name": name, "error": f"{type(error).__name__}: {error}"[:300]})
            print(table[-1], file=sys.stderr, flush=True)
    worst = [value for row in table for value in row.get("difference", {}).values()]
    exact = all(isinstance(value, float) and value <= given.limit for value in worst)
    harness.report(
        "architecture_support", given, all_exact=exact and all("error" not in row for row in table), table=table
    )


if __name__ == "__main__":
    main()
