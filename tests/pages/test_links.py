"""Links of version 0.1.0 still open the view that they were copied from.

Each address below was written by that version; the values are those that it gave the controls.
"""

from pathlib import Path

import pytest

from sparse_core.results.records import Records
from sparse_core.speed import measurements
from tests.pages.support import open_app
from tests.support.measurements import line, speed_record, training_line
from tests.support.records import record

LITE50 = "EfficientNet-Lite0, magnitude 50 %"
LINKS = {
    "tradeoffs, filters": (
        "tradeoffs",
        {
            "architecture": "MobileNetV1",
            "transfer": "Full",
            "source": "Published",
            "methods": ["AC/DC", "STR"],
            "tasks": ["CIFAR-10", "Oxford-IIIT Pets"],
            "sparsity": ["75", "90"],
            "view": "Pareto front",
            "pareto_task": "CIFAR-10",
            "points": ["Full: STR 75 %", "Full: AC/DC 90 %"],
            "pareto_columns": ["Method", "Mean accuracy (%)", "On the front"],
        },
        {
            "architecture": "mobilenet_v1",
            "transfer": "full",
            "source": "published",
            "methods": ["AC/DC", "STR"],
            "tasks": ["cifar10", "pets"],
            "sparsity": (75, 90),
            "pareto_task": "cifar10",
            "pareto_columns": ["method", "accuracy_mean", "front"],
        },
    ),
    "tradeoffs, your runs": (
        "tradeoffs",
        {
            "architecture": "EfficientNet-Lite0",
            "source": "Measured",
            "accuracy": "Last epoch",
            "axis": "Multiply-adds of the nonzero weights",
            "points": "Linear: Magnitude 50 %, measured 2fab",
            "averages_columns": ["Method", "Mean relative error increase (%)", "Standard error (%)"],
        },
        {
            "source": "measured",
            "accuracy": "final",
            "axis": "multiply_adds",
            "averages_columns": ["method", "mean_relative_error_increase", "standard_error"],
        },
    ),
    "tasks": (
        "tasks",
        {
            "architecture": "EfficientNet-Lite0",
            "source": "Measured",
            "value": "Difference to dense",
            "order": "By name",
            "level": "50 %",
            "layout": "One row a task",
            "cells": "Magnitude 50 %, measured 2fab on Digits (data)",
            "long_columns": ["Relative error increase (%)", "Task's content"],
        },
        {
            "source": "measured",
            "value": "difference",
            "order": "name",
            "level": 0.5,
            "long_columns": ["relative_error_increase", "dataset_hash"],
        },
    ),
    "probe": (
        "probe",
        {
            "backbone": LITE50,
            "dataset": "Digits, 10 classes",
            "seeds": "3",
            "epochs": "20",
            "lr": "0.02",
            "step": "5",
            "factor": "0.5",
            "sweep": "0.001 0.01",
            "precision": "bf16",
            "feature_engine": "PyTorch",
        },
        {
            "backbone": "efficientnet_lite0_magnitude_50",
            "seeds": 3,
            "epochs": 20,
            "lr": 0.02,
            "step": 5,
            "factor": 0.5,
            "sweep": "0.001 0.01",
            "precision": "bf16",
            "feature_engine": "torch",
        },
    ),
    "finetune": (
        "finetune",
        {
            "dataset": "My own folder or Parquet file",
            "path": "/home/me/images",
            "seeds": "2",
        },
        {"dataset": "My own folder or Parquet file", "path": "/home/me/images", "seeds": 2},
    ),
    "finetune, settings": (
        "finetune",
        {"optimizer": "AdamW", "training_precision": "bf16", "augment": "false", "scratch": "true", "frozen": "true"},
        {"optimizer": "adamw", "training_precision": "bf16", "augment": False, "scratch": True, "frozen": True},
    ),
    "library": ("library", {"from": "A path on this machine"}, {"from": "path"}),
    "structure": (
        "structure",
        {"backbone": LITE50, "part": "Overlap of masks"},
        {"backbone": "efficientnet_lite0_magnitude_50"},
    ),
    "speedup, form": (
        "speedup",
        {
            "measure": "true",
            "what": "An architecture, timing only",
            "of_architecture": "ResNet18",
            "distribution": "Erdős–Rényi-Kernel",
            "to_sparsity": "95",
            "engines": ["PyTorch"],
            "sizes": ["8", "16"],
            "rounds": "5",
            "use_threads": "1",
        },
        {
            "what": "architecture",
            "of_architecture": "resnet18",
            "distribution": "erk",
            "to_sparsity": 95.0,
            "engines": ["torch"],
            "sizes": [8, 16],
            "rounds": 5,
            "use_threads": 1,
        },
    ),
    "speedup, form for training": (
        "speedup",
        {"measure": "true", "what": "An architecture, timing only", "time": "Online training", "engine": "PyTorch"},
        {"what": "architecture", "time": "training", "engine": "torch"},
    ),
    "speedup, batch sizes": (
        "speedup",
        {
            "timed_architecture": "ResNet50",
            "mode": "Inference",
            "only_engines": "DeepSparse",
            "batch_size": "1",
            "part": "By batch size",
            "network": "ResNet50 at 80 %, uniform mask (timing only)",
        },
        {
            "timed_architecture": "resnet50",
            "only_engines": ["deepsparse"],
            "batch_size": 1,
            "network": "ResNet50 at 80 %, uniform mask (timing only)",
        },
    ),
    "speedup, accuracy": (
        "speedup",
        {
            "part": "Accuracy and speed",
            "timed_architecture": "EfficientNet-Lite0",
            "front_engine": "DeepSparse",
            "speed_axis": "Images a second",
            "front_table_columns": ["Engine", "Images a second", "Milliseconds an image", "On the front"],
        },
        {
            "front_engine": "deepsparse",
            "speed_axis": "images_per_second",
            "front_table_columns": ["engine_words", "images_per_second", "milliseconds_per_image", "front"],
        },
    ),
    "speedup, one measurement": (
        "speedup",
        {
            "part": "All measurements",
            "look": "ResNet50 at 90 %, uniform mask (timing only), inference (02 Jan 03:04, a)",
            "measurements_columns": ["Made at", "Network", "Timed", "Times as fast as dense", "Verdict", "Mask of"],
            "measurements_filter": "no gain",
        },
        {
            "look": "ResNet50 at 90 %, uniform mask (timing only), inference (02 Jan 03:04, a)",
            "measurements_columns": ["created_at", "network", "mode", "ratio", "gain", "origin"],
            "measurements_filter": "no gain",
        },
    ),
    "speedup, layers": (
        "speedup",
        {
            "part": "Time by layer",
            "timed_architecture": "ResNet50",
            "layers_of": "ResNet50 at 80 %, uniform mask (timing only): DeepSparse, batch 1",
        },
        {"layers_of": "ResNet50 at 80 %, uniform mask (timing only): DeepSparse, batch 1"},
    ),
    "runs, published": (
        "runs",
        {"runs_source": "Published", "published_runs_columns": ["Method", "Task", "Best accuracy (%)"]},
        {"runs_source": "published", "published_runs_columns": ["method", "dataset", "accuracy_best"]},
    ),
    "runs, two": (
        "runs",
        {
            "chosen": [
                "Dense, Digits, linear, seed 1 (02 Jan 03:04, 1a53)",
                "Magnitude 50 %, Digits, linear, seed 0 (02 Jan 03:04, 57ea)",
            ],
            "all_runs_filter": "measured",
        },
        {"all_runs_filter": "measured"},
    ),
}


@pytest.fixture
def used_home(home: Path) -> Path:
    """A home with two dense runs and one sparse one, and with measurements of speed."""
    for entry in (record(seed=0), record(seed=1, best=0.8), record(sparsity=0.5, best=0.7)):
        Records(home).write(entry)
    backbone = {
        "timing_only": False,
        "backbone": "efficientnet_lite0_magnitude_50",
        "backbone_hash": "net0.5",
        "architecture": "efficientnet_lite0",
        "method": "Magnitude",
        "distribution": "",
        "sparsity": 0.5,
    }
    layers = [["conv1", 0.25], ["fc", 0.75]]
    lines = [line(ratio=1.0), line(engine="torch", ratio=0.9)]
    measurements.write(home, speed_record("a", lines=lines))
    batches = [line(), line(batch_size=1, layers=layers)]
    measurements.write(home, speed_record("b", created_at="2026-01-03", sparsity=0.8, lines=batches))
    measurements.write(home, speed_record("c", created_at="2026-01-04", **backbone))
    training = {"mode": "training", "spec": {"dataset": "digits"}, "lines": [training_line()]}
    measurements.write(home, speed_record("d", created_at="2026-01-05", **backbone, **training))
    return home


@pytest.mark.parametrize("name", LINKS)
def test_a_link_of_version_0_1_0_opens_its_view(used_home: Path, name: str) -> None:
    page, query, expected = LINKS[name]
    app = open_app(page, **query)
    assert [toast.value for toast in app.toast] == []
    assert {key: app.session_state[key] for key in expected} == expected
    for key in ("points", "cells", "chosen"):
        if key in query:
            chosen = app.session_state[key]
            assert len(chosen) == (1 if isinstance(query[key], str) else len(query[key]))
