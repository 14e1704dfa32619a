"""Invented measurements of speed, for tests of their files and of the page."""

from typing import Any

MAGNITUDE_50 = "efficientnet_lite0_magnitude_50"


def line(*, ratio: float = 3.0, width: float = 0.1, milliseconds: float = 4.0, **fields: Any) -> dict[str, Any]:
    """A line whose 95 % interval is ``ratio`` ± ``width``."""
    low, high = ratio - width, ratio + width
    setting = {"engine": "deepsparse", "engine_version": "1.8.0", "precision": "fp32", "batch_size": 64, "threads": 2}
    speed = {"sparsity": 0.9, "milliseconds_per_image": milliseconds, "images_per_second": 1000 / milliseconds}
    speed["dense_milliseconds_per_image"] = milliseconds * ratio
    speed["quartiles"] = [milliseconds - 0.1, milliseconds + 0.1]
    gain = {"ratio": ratio, "ratio_low": low, "ratio_high": high, "interval_method": "order statistics"}
    gain["gain"] = "faster" if low > 1 else "slower" if high < 1 else "no gain"
    quality = {"reliable": True, "spread": 0.05, "busy_during": 0.03, "difference": 1e-6, "restarts": 0}
    cost = {"seconds_to_compile": 5.0, "peak_memory_bytes": 10**9, "layers": None}
    samples = {"dense": [milliseconds * ratio] * 3, "sparse": [milliseconds] * 3}
    return {**setting, **speed, **gain, **quality, **cost, "samples": samples, **fields}


def training_line(*, ratio: float = 2.5, **fields: Any) -> dict[str, Any]:
    """A line of online training: 40 s per epoch."""
    split = {"decode": 5.0, "backbone": 30.0, "classifier": 5.0}
    splits = {"split": split, "dense_split": {**split, "backbone": 40.0 * ratio - 10.0}, "accuracy": None}
    seconds = {"seconds_per_epoch": 40.0, "dense_seconds_per_epoch": 40.0 * ratio}
    return line(ratio=ratio, **{**seconds, **splits, **fields})


def speed_record(measurement: str = "a", **fields: Any) -> dict[str, Any]:
    """A measurement with one line and random weights, unless ``fields`` say otherwise."""
    network = {"timing_only": True, "backbone": "", "backbone_hash": "", "architecture": "resnet50", "method": ""}
    network |= {"sparsity": 0.9, "distribution": "uniform", "measured_sparsity": 0.9}
    asked = {"mode": "inference", "spec": {"architecture": "resnet50", "sparsity": 0.9, "dataset": ""}}
    machine = {"processor": "Some processor", "cores": 2, "instruction_sets": ["avx2"], "versions": {}}
    load = {"busy_before": 0.02, "load_before": 0.1, "load_after": 1.0, "machine": machine}
    origin = {"id": measurement, "created_at": "2026-01-02T03:04:05", "product_version": "1", "commit": "abc"}
    return {**origin, **asked, **network, **load, "lines": [line()], "problems": [], **fields}


def backbone_record(measurement: str = "a", **fields: Any) -> dict[str, Any]:
    """A measurement of the backbone that ``tests.support.records.record(sparsity=0.5)`` was made with."""
    network = {"backbone": MAGNITUDE_50, "backbone_hash": "net0.5", "method": "Magnitude", "distribution": ""}
    network |= {"timing_only": False, "architecture": "efficientnet_lite0", "sparsity": 0.5, "measured_sparsity": 0.5}
    return speed_record(measurement, **{**network, "spec": {"dataset": ""}, **fields})


def training_record(measurement: str = "a", **fields: Any) -> dict[str, Any]:
    usual = {"mode": "training", "spec": {"dataset": "digits"}, "lines": [training_line()]}
    return backbone_record(measurement, **{**usual, **fields})
