"""The time and memory that importing a ResNet50 checkpoint takes, compared with torch itself.

    python -m benchmarks.checkpoint_import [--rounds 5] [--limit-seconds 3] [--limit-files 3]

The file is a state dict with 1,000 classes, written by ``torch.save`` (about 102 MB), 90 % of its convolution weights zero.
Each round starts processes in turn: one imports torch, one imports torchvision too, one calls ``torch.load``, one imports the
file into a library, one inspects it, one recognises it; each reports its peak of resident memory. Seconds are those of the import
into the library, with torch loaded in this process and in the one that reads torch files, as in the worker; memory is that of the
importing process.
All figures are medians over rounds; ``files_of_memory_above`` is in sizes of the file. ``seconds_of_inspecting`` are those of
``inspect`` in such a process; ``seconds_of_recognising`` find the names and shapes among those of all networks of torchvision and
timm, the index read from its file. Expected: less than 3 seconds for import and inspection, 2 for recognition, and less than 3
files above ``torch.load``. Prints one JSON line.
"""

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import harness

SPARSITY = 0.9


def write_checkpoint(file: Path) -> None:
    """A ResNet50 with random weights, pruned by magnitude over the whole network."""
    import torch
    import torchvision

    from sparse_core.networks import masks

    torch.manual_seed(0)
    network = torchvision.models.resnet50()
    masks.apply(network, masks.top_k(network, SPARSITY))
    torch.save(network.state_dict(), file)


def torch_load(file: Path) -> float:
    """Seconds of ``torch.load``."""
    import torch

    return harness.seconds(lambda: torch.load(file, weights_only=True))


def warm(file: Path) -> None:
    """Load what the worker keeps loaded, and start the process that reads torch files, as the worker does."""
    import torch

    importlib.import_module("torchvision")
    weight_files = importlib.import_module("sparse_core.networks.weight_files")
    torch.save({}, file.with_suffix(".tiny"))
    weight_files.open_file(file.with_suffix(".tiny"))


def into_library(file: Path) -> float:
    """Seconds of the import into a library beside the file."""
    importing = importlib.import_module("sparse_core.networks.importing")
    warm(file)
    home = Path(tempfile.mkdtemp(dir=file.parent))
    return harness.seconds(lambda: importing.add(home, file, "resnet50-pruned"))


def inspect(file: Path) -> float:
    """Seconds of ``inspect``."""
    inspection = importlib.import_module("sparse_core.networks.inspection")
    warm(file)
    return harness.seconds(lambda: inspection.inspect(file))


def recognise(file: Path) -> float:
    """Seconds to compare the file's tensors with those of all known networks."""
    import torch

    from sparse_core.networks import known_networks

    shapes = {name: tuple(tensor.shape) for name, tensor in torch.load(file, weights_only=True).items()}
    return harness.seconds(lambda: known_networks.match(shapes))


WORK = {
    "torch": lambda _: harness.seconds(lambda: importlib.import_module("torch")),
    "torchvision": lambda _: harness.seconds(lambda: importlib.import_module("torchvision")),
    "torch_load": torch_load,
    "import": into_library,
    "inspect": inspect,
    "recognise": recognise,
}
COMMAND = (sys.executable, "-m", "benchmarks.checkpoint_import", "--work")


def work(name: str, file: Path) -> None:
    """Write the file, or do one kind of work and print its ``seconds`` and its peak of resident memory in ``bytes``."""
    if name == "write":
        write_checkpoint(file)
        return
    seconds = WORK[name](file)
    print(json.dumps({"seconds": seconds, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def measure(name: str, file: Path) -> dict[str, float]:
    """What ``work`` prints in a process of its own."""
    return json.loads(subprocess.check_output([*COMMAND, name, "--file", file], text=True))


def main() -> None:
    options = harness.parser(__doc__, rounds=5, limit_seconds=3.0, limit_files=3.0)
    options.add_argument("--work", choices=["write", *WORK], help=argparse.SUPPRESS)
    options.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.work:
        work(given.work, given.file)
        return
    with tempfile.TemporaryDirectory() as folder:
        # This process stays small: the processes that it starts would count what it has resident.
        file = Path(folder) / "resnet50.pt"
        subprocess.run([*COMMAND, "write", "--file", file], check=True)
        size = file.stat().st_size
        rounds = [{name: measure(name, file) for name in WORK} for _ in range(given.rounds)]

    def median(name: str, field: str, less: str = "") -> float:
        return statistics.median(each[name][field] - (each[less][field] if less else 0) for each in rounds)

    above = {name: median("import", "bytes", less=name) / size for name in ("torch", "torchvision", "torch_load")}
    harness.report(
        "checkpoint_import",
        given,
        ratio_of_seconds_to_limit=round(median("import", "seconds") / given.limit_seconds, 3),
        ratio_of_memory_to_limit=round(above["torch_load"] / given.limit_files, 3),
        files_of_memory_above={name: round(files, 2) for name, files in above.items()},
        seconds=[round(each["import"]["seconds"], 3) for each in rounds],
        seconds_of_inspecting=[round(each["inspect"]["seconds"], 3) for each in rounds],
        seconds_of_recognising=[round(each["recognise"]["seconds"], 3) for each in rounds],
        seconds_of_torch_load=[round(each["torch_load"]["seconds"], 3) for each in rounds],
        peak_megabytes={name: round(median(name, "bytes") / 1e6) for name in WORK},
        file_megabytes=round(size / 1e6, 1),
    )


if __name__ == "__main__":
    main()
