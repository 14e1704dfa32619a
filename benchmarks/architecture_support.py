"""Architectures tried end to end: a file of random weights is imported, probed, finetuned, analysed, exported and run.

    python -m benchmarks.architecture_support [--names resnet101,timm/resnet50d] [--size 64] [--limit 0.001]

For each network of torchvision or timm, whole with seven classes, random BatchNorm statistics and a quarter of each
convolution's filters 0: ``inspect_seconds`` to read and recognise the file among all names; ``probe`` the accuracy of a linear
probe on 48 images of two colours at ``--size`` pixels (VGG's own 224: its pooling is exported for no other size);
``finetune`` the number of pruned weights that are not 0 after one step of finetuning; ``multiply_adds`` (millions) and the share
of ``removable`` filters; ``difference`` of each engine's features, run from the exported ONNX file, to PyTorch's, relative to the
largest. ``OTHER_NAMES`` are files under the names of other projects. Expected: every name is recognised, and every difference is
at most ``--limit``. Prints a line per network on stderr, then one JSON line.
"""

import re
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
from sparse_core.networks import backbones, importing, inspection, public_networks, structure_analysis
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec
from sparse_core.transfer import runs

NAMES = (
    "resnet101,resnext50_32x4d,wide_resnet50_2,timm/resnet50d,vgg16_bn,densenet121,mobilenet_v2,mobilenet_v3_large,"
    "mobilenet_v3_small,efficientnet_b0,convnext_tiny,regnet_y_400mf,regnet_x_400mf,timm/efficientnet_b0,"
    "timm/tf_efficientnet_b0,timm/mobilenetv3_large_100,timm/regnety_004,timm/convnext_atto,sparseml/resnet50,"
    "huggingface/resnet50,kuangliu/resnet18"
)
# The network of a project's file, and how torchvision's names become those of the file.
OTHER_NAMES: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "sparseml/resnet50": (
        "resnet50",
        [
            *((rf"^layer{number + 1}\.", f"sections.{number}.") for number in range(4)),
            (r"^(conv|bn)1\.", r"input.\1."),
            (r"downsample\.0", "identity.conv"),
            (r"downsample\.1", "identity.bn"),
            (r"^fc\.", "classifier.fc."),
        ],
    ),
    "huggingface/resnet50": (
        "resnet50",
        [
            (r"^conv1\.", "resnet.embedder.embedder.convolution."),
            (r"^bn1\.", "resnet.embedder.embedder.normalization."),
            *((rf"conv{place + 1}\.", f"layer.{place}.convolution.") for place in range(3)),
            *((rf"bn{place + 1}\.", f"layer.{place}.normalization.") for place in range(3)),
            *((rf"^layer{number + 1}\.(\d)\.", rf"resnet.encoder.stages.{number}.layers.\1.") for number in range(4)),
            (r"downsample\.0", "shortcut.convolution"),
            (r"downsample\.1", "shortcut.normalization"),
            (r"^fc\.", "classifier.1."),
        ],
    ),
    "kuangliu/resnet18": ("resnet18", [(r"downsample", "shortcut"), (r"^fc\.", "linear.")]),
}
OWN_SIZE = {"vgg16_bn": 224, "kuangliu/resnet18": 32}
CLASSES = 7


def whole_network(name: str) -> nn.Module:
    """A network with its classifier, random weights, and BatchNorm statistics that differ from channel to channel."""
    torch.manual_seed(0)
    if name in OTHER_NAMES:
        network = public_networks.torchvision_models().get_model(OTHER_NAMES[name][0], num_classes=CLASSES)
        if name.startswith("kuangliu"):
            network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    elif name.startswith(public_networks.TIMM):
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


def saved(name: str, folder: Path) -> Path:
    """A file of a network, under the names of its project."""
    state = whole_network(name).state_dict()
    for pattern, replacement in OTHER_NAMES.get(name, ("", []))[1]:
        state = {re.sub(pattern, replacement, key): tensor for key, tensor in state.items()}
    file = folder / f"{name.replace('/', '-')}.pth"
    torch.save({"state_dict": state}, file)
    return file


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
    file, size = saved(name, folder), OWN_SIZE.get(name, size)
    found: dict[str, Any] = {"name": name, "size": size, "megabytes": round(file.stat().st_size / 1e6)}
    seen: dict[str, Any] = {}
    found["inspect_seconds"] = round(harness.seconds(lambda: seen.update(inspection.inspect(file))), 2)
    found["recognised"] = ["-".join(filter(None, (seen["architecture"], seen["variant"]))), *seen["alternatives"]]
    home, known = folder / "home", file.stem.replace(".", "-")
    chosen = "" if name in OTHER_NAMES else name  # needed only where several fit
    importing.add(home, file, known, architecture=chosen)
    file.unlink()
    settings = Hyperparameters(epochs=20, learning_rate=0.1)
    probe = ProbeSpec(known, str(dataset), settings=settings, image_size=size, engine="torch")
    found["probe"] = result(home, runs.run_probe(home, probe, (0,), lambda _: None))["top1_final"]
    one_step = Hyperparameters(epochs=1, batch_size=32 if size < 128 else 8)  # memory
    finetune = FinetuneSpec(known, str(dataset), settings=one_step, image_size=size)
    trained = result(home, runs.run_finetune(home, finetune, (0,), lambda _: None))
    found["finetune"] = trained["mask_violations"]
    backbone = backbones.for_images(backbones.load(home, known), size)
    structure = structure_analysis.analyse(backbone.module, size)
    found["multiply_adds"] = round(structure.multiply_adds / 1e6)
    found["removable"] = round(structure.filters_dead_share, 3)
    found["difference"] = differences(backbone.module, size)
    return found


def result(home: Path, outcome: dict[str, Any]) -> dict[str, Any]:
    return runs.Records(home).read(outcome["runs"][0]).result


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
