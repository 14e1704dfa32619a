"""Made-up finished runs for tests of the store and the pages."""

from sparse_core.results.records import Record
from sparse_core.specs.identity import record_document, run_id
from sparse_core.specs.transfer import ProbeSpec, protocol


def record(
    *, sparsity: float = 0.0, seed: int = 0, best: float = 0.9, final: float = 0.88, replicate: int = 0
) -> Record:
    spec = ProbeSpec("net", "digits", backbone_hash=f"net{sparsity}", dataset_hash="data", replicate=replicate)
    result = {
        "architecture": "efficientnet_lite0",
        "upstream": "ImageNet",
        "method": "Magnitude" if sparsity else "Dense",
        "sparsity": sparsity,
        "backbone_sparsity": sparsity,
        "nonzero_parameters": round(4_000_000 * (1 - sparsity)),
        "multiply_adds": round(400_000_000 * (1 - sparsity)),
        "file_size": 16_000_000,
        "dataset_name": "digits",
        "metric": "top1",
        "class_names": ["a", "b"],
        "train_images": 8,
        "test_images": 4,
        **{f"{metric}_best": best for metric in ("accuracy", "top1", "mean_per_class")},
        **{f"{metric}_final": final for metric in ("accuracy", "top1", "mean_per_class")},
        "learning_rate": 0.01,
        "protocol": protocol(spec),
        "confusion": [[0, 0, 2], [1, 0, 1], [1, 1, 1]],
        "seconds_features": 1.0,
        "seconds_training": 1.0,
        "images_per_second": 10.0,
        "features_cached": True,
        "notes": [],
        "created_at": "2026-01-02T03:04:05",
    }
    events = [{"epoch": 1, "loss": 1.0, "top1": final, "mean_per_class": final}]
    return Record(run_id(spec, seed), record_document(spec, seed), result, events)
