"""Invented measurements of speed, for tests of their files and of the page."""

from typing import Any


def line(*, ratio: float = 3.0, width: float = 0.1, milliseconds: float = 4.0, **fields: Any) -> dict[str, Any]:
    """A line whose 95 % interval is ``ratio`` ± ``width``."""
    low, high = ratio - width, ratio + width
    return {
        "engine": "deepsparse",
        "engine_version": "1.8.0",
        "precision": "fp32",
        "batch_size": 64,
        "threads": 2,
        "sparsity": 0.9,
        "milliseconds_per_image": milliseconds,
        "dense_milliseconds_per_image": milliseconds * ratio,
        "quartiles": [milliseconds - 0.1, milliseconds + 0.1],
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "gain": "faster" if low > 1 else "slower" if high < 1 else "no gain",
        "reliable": True,
        "spread": 0.05,
        "busy_during": 0.03,
        "images_per_second": 1000 / milliseconds,
        "seconds_to_compile": 5.0,
        "peak_memory_bytes": 10**9,
        "difference": 1e-6,
        "samples": {"dense": [milliseconds * ratio] * 3, "sparse": [milliseconds] * 3},
        "layers": None,
        "restarts": 0,
        **fields,
    }


def training_line(*, ratio: float = 2.5, **fields: Any) -> dict[str, Any]:
    """A line of online training: 40 s per epoch."""
    return line(
        ratio=ratio,
        **{
            "seconds_per_epoch": 40.0,
            "dense_seconds_per_epoch": 40.0 * ratio,
            "split": {"decode": 5.0, "backbone": 30.0, "classifier": 5.0},
            "dense_split": {"decode": 5.0, "backbone": 40.0 * ratio - 10.0, "classifier": 5.0},
            "accuracy": None,
            **fields,
        },
    )


def speed_record(measurement: str = "a", **fields: Any) -> dict[str, Any]:
    """A measurement with one line and random weights, unless ``fields`` say otherwise."""
    return {
        "id": measurement,
        "created_at": "2026-01-02T03:04:05",
        "mode": "inference",
        "timing_only": True,
        "backbone": "",
        "backbone_hash": "",
        "architecture": "resnet50",
        "method": "",
        "sparsity": 0.9,
        "distribution": "uniform",
        "measured_sparsity": 0.9,
        "spec": {"architecture": "resnet50", "sparsity": 0.9, "dataset": ""},
        "machine": {"processor": "Some processor", "cores": 2, "instruction_sets": ["avx2"], "versions": {}},
        "busy_before": 0.02,
        "load_before": 0.1,
        "load_after": 1.0,
        "product_version": "1",
        "commit": "abc",
        "lines": [line()],
        "problems": [],
        **fields,
    }
