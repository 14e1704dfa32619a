"""The speedups that the guide sets beside its answers."""

from sparse_core import paths
from sparse_core.paths import SHIPPED  # as imported: tests usually do not see it
from sparse_core.results.advice import Speedup
from sparse_core.speed import fastest, measurements


def record(created_at, lines, **fields):
    usual = {"id": created_at, "mode": "inference", "timing_only": False, "architecture": "resnet50", "method": "GMP"}
    return {**usual, "created_at": created_at, "sparsity": 0.9, "backbone_hash": "a", **fields, "lines": lines}


def line(ratio, engine="deepsparse", batch_size=16, reliable=True):
    return {
        "engine": engine, "batch_size": batch_size, "threads": 2, "ratio": ratio, "ratio_low": ratio - 0.1,
        "ratio_high": ratio + 0.1, "gain": "faster", "reliable": reliable, "milliseconds_per_image": 1.0,
        "dense_milliseconds_per_image": ratio,
    }  # fmt: skip


def test_the_newest_measurement_in_the_best_engine_counts(tmp_path):
    given = [
        record("1", [line(4.0), line(1.1, "torch")]),
        record(
            "2", [line(3.0), line(9.0, batch_size=64, reliable=False)]
        ),  # replaces the 4, which was of the same kind
        record("3", [line(2.0)], method="", timing_only=True, backbone_hash=""),
        record("4", [line(8.0)], architecture="resnet18"),
        record("5", [line(8.0)], mode="training"),
    ]
    assert fastest.fastest(tmp_path, given, "resnet50") == {
        ("GMP", 0.9): Speedup(3.0, 2.9, 3.1, "DeepSparse, batch 16"),
        ("", 0.9): Speedup(2.0, 1.9, 2.1, "DeepSparse, batch 16, timing-only mask", timing_only=True),
    }


def test_shipped_measurements_stand_in_for_none(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "SHIPPED", SHIPPED)
    shipped = fastest.measured(tmp_path, "resnet50")
    assert shipped and all(found.how.endswith("another machine") for found in shipped.values())
    own = record("2026-01-01T00:00:00", [line(1.5)], id="own")
    measurements.write(tmp_path, own)
    assert {key: found.ratio for key, found in fastest.measured(tmp_path, "resnet50").items()} == {("GMP", 0.9): 1.5}
