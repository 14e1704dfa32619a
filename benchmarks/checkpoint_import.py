"""How long the import of a ResNet50's checkpoint takes, and how much memory beyond what torch itself does.

    python -m benchmarks.checkpoint_import [--rounds 5] [--limit-seconds 3] [--limit-files 3]

The file is a state dict of 1,000 classes as ``torch.save`` writes it (about 102 MB), 90 % of its convolution weights zero. Each
round takes processes of their own, in turn: one that imports torch, one that imports torchvision, too, one that imports
torch and calls ``torch.load``, and one that imports the file into a library; each reports its peak of resident memory.
Seconds are those of the import into the library, with torch loaded here and in the process that reads torch files, as in the
worker; memory is that of the importing process.
All figures are medians over rounds; memory above each of the others is in sizes of the file. Expected: less than 3 seconds, and
less than 3 files above ``torch.load``. Prints one JSON line.
"""

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import harness
from sparse_core.engines.machine import load

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


def imported(module: str) -> float:
    """Seconds of importing a module and nothing else."""
    started = time.perf_counter()
    importlib.import_module(module)
    return time.perf_counter() - started


def torch_load(file: Path) -> float:
    """Seconds of ``torch.load``."""
    import torch

    started = time.perf_counter()
    torch.load(file, weights_only=True)
    return time.perf_counter() - started


def into_library(file: Path) -> float:
    """Seconds of the import into a library beside the file."""
    import torch

    importing = importlib.import_module(
        "sparse_core.networks.importing"
    )  # and all networks, which the worker keeps loaded
    weight_files = importlib.import_module("sparse_core.networks.weight_files")
    torch.save({}, file.with_suffix(".tiny"))
    weight_files.open_file(file.with_suffix(".tiny"))  # starts the process that reads torch files, as the worker does
    home = Path(tempfile.mkdtemp(dir=file.parent))
    started = time.perf_counter()
    importing.add(home, file, "resnet50-pruned")
    return time.perf_counter() - started


WORK = {
    "torch": lambda _: imported("torch"),
    "torchvision": lambda _: imported("torchvision"),
    "torch_load": torch_load,
    "import": into_library,
}
OTHERS = [name for name in WORK if name != "import"]


def measure(name: str, file: Path) -> dict[str, float]:
    """That work in a process of its own: its ``seconds`` and its peak of resident memory in ``bytes``."""
    command = [sys.executable, "-m", "benchmarks.checkpoint_import", "--work", name, "--file", str(file)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--limit-seconds", type=float, default=3.0)
    options.add_argument("--limit-files", type=float, default=3.0)
    options.add_argument("--work", choices=["write", *WORK], help=argparse.SUPPRESS)
    options.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.work == "write":
        write_checkpoint(given.file)
        return
    if given.work:
        seconds = WORK[given.work](given.file)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "bytes": peak}))
        return
    with tempfile.TemporaryDirectory() as folder:
        # This process stays small: what it has resident would count in the processes that it starts.
        file = Path(folder) / "resnet50.pt"
        subprocess.run(
            [sys.executable, "-m", "benchmarks.checkpoint_import", "--work", "write", "--file", file], check=True
        )
        size = file.stat().st_size
        rounds = [{name: measure(name, file) for name in WORK} for _ in range(given.rounds)]
    seconds = statistics.median(each["import"]["seconds"] for each in rounds)
    over = {
        name: statistics.median((each["import"]["bytes"] - each[name]["bytes"]) / size for each in rounds)
        for name in OTHERS
    }
    harness.report(
        "checkpoint_import",
        ratio_of_seconds_to_limit=round(seconds / given.limit_seconds, 3),
        ratio_of_memory_to_limit=round(over["torch_load"] / given.limit_files, 3),
        files_of_memory_above={name: round(files, 2) for name, files in over.items()},
        seconds=[round(each["import"]["seconds"], 3) for each in rounds],
        seconds_of_torch_load=[round(each["torch_load"]["seconds"], 3) for each in rounds],
        peak_megabytes={name: round(statistics.median(each[name]["bytes"] for each in rounds) / 1e6) for name in WORK},
        file_megabytes=round(size / 1e6, 1),
        rounds=given.rounds,
        load=round(load(), 2),
    )


if __name__ == "__main__":
    main()
