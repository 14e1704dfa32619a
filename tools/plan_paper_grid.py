"""How long the paper's whole grid would take on nodes like this machine: a plan, simulated from what is measured here.

    python -m tools.plan_paper_grid [NODES ...]

Measured are ResNet50's feature extraction and training steps at 224 px on drawn photographs, as a dry run of ``sweep`` measures
them; an epoch on each task takes as much longer as the task has more images. The grid is 20 networks x 12 tasks x 5 seeds, linear
and full transfer by the paper's protocol. Prints one JSON line: hours for each number of nodes.
"""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from sparse_core.catalog import TASKS
from sparse_core.engines.machine import machine
from sparse_core.jobs.schedule import makespan
from sparse_core.jobs.sweep_seconds import Seconds
from sparse_core.specs.sweep import plan
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec
from sparse_core.transfer import durations, runs

NETWORKS, SEEDS = 20, 5
DRAWN, SIDES = 64, (375, 500)
# Training and test images by the data sets' own counts, cut as the study cuts them; Birdsnap's by Kornblith et al. (2019).
IMAGES = {
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "food101": (75_750, 25_250),
    "sun397": (19_850, 19_850),
    "caltech101": (3_030, 5_647),
    "caltech256": (15_420, 15_187),
    "birds": (47_386, 2_443),
    "cars": (8_144, 8_041),
    "aircraft": (6_667, 3_333),
    "dtd": (3_760, 1_880),
    "pets": (3_680, 3_669),
    "flowers": (2_040, 6_149),
}


def main(nodes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home, images = Path(folder) / "home", Path(folder) / "drawn"
        draw(images)
        for kind, spec in (
            ("probe", ProbeSpec("resnet50", str(images))),
            ("finetune", FinetuneSpec("resnet50", str(images))),
        ):
            runs.run_estimate(home, spec, (0,), lambda _: None)
            spec = dataclasses.replace(spec, precision="fp32")
            measured = durations.recall(home, spec)
            assert measured, kind
            for task, (train, test) in IMAGES.items():
                keep(home, dataclasses.replace(spec, dataset=task), measured, train, test)
        entries = [
            {
                "kind": kind,
                "backbones": [f"resnet50-{number}" for number in range(NETWORKS)],
                "datasets": list(TASKS),
                "seeds": SEEDS,
            }
            for kind in ("probe", "finetune")
        ]
        asked = plan(json.dumps({"runs": entries}), "paper")
        seconds = Seconds(home, asked)
        hours = {count: round((makespan(asked.tasks, seconds.of, count) or 0.0) / 3600, 1) for count in nodes}
        linear = [task for task in asked.tasks if task.kind == "probe"]
        only_linear = {count: round((makespan(linear, seconds.of, count) or 0.0) / 3600, 1) for count in nodes}
        print(
            json.dumps(
                {
                    "runs": sum(len(task.seeds) for task in asked.tasks),
                    "hours": hours,
                    "hours_linear": only_linear,
                    "machine": machine(),
                }
            )
        )


def keep(home: Path, spec: ProbeSpec | FinetuneSpec, measured: durations.Estimate, train: int, test: int) -> None:
    """The measured estimate as that of a task with so many images."""
    ratio = train / (DRAWN * 0.75)
    durations.keep(
        home,
        spec,
        dataclasses.replace(
            measured, images=train + test, seconds_per_epoch=measured.seconds_per_epoch * ratio, sampled=False
        ),
    )


def draw(folder: Path) -> None:
    """Photographs of the usual size, drawn as smooth noise, in two classes of each split."""
    random = np.random.default_rng(0)
    for split, count in (("train", int(DRAWN * 0.75)), ("test", int(DRAWN * 0.25))):
        for label in ("one", "two"):
            (folder / split / label).mkdir(parents=True)
            for number in range(count // 2):
                small = Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8))
                small.resize(SIDES[::-1], Image.Resampling.BICUBIC).save(folder / split / label / f"{number}.jpg")


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [1, 8, 64])
