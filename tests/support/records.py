"""Made-up finished runs for tests of the store, the measures and the pages."""

from pathlib import Path

import pandas as pd

from sparse_core.results.records import Record, Records
from sparse_core.specs.identity import record_document, run_id
from sparse_core.specs.transfer import DetectionSpec, ProbeSpec, detection_protocol, protocol


def record(
    *, sparsity: float = 0.0, seed: int = 0, best: float = 0.9, final: float = 0.88, replicate: int = 0
) -> Record:
    spec = ProbeSpec("net", "digits", backbone_hash=f"net{sparsity}", dataset_hash="data", replicate=replicate)
    result = {"architecture": "efficientnet_lite0", "upstream": "ImageNet", "file_size": 16_000_000}
    result |= {"method": "Magnitude" if sparsity else "Dense", "sparsity": sparsity, "backbone_sparsity": sparsity}
    result |= {"nonzero_parameters": round(4_000_000 * (1 - sparsity)), "multiply_adds": round(4e8 * (1 - sparsity))}
    result |= {"dataset_name": "digits", "metric": "top1", "class_names": ["a", "b"]}
    for metric in ("accuracy", "top1", "mean_per_class"):
        result |= {f"{metric}_best": best, f"{metric}_final": final}
    result |= {"learning_rate": 0.01, "protocol": protocol(spec), "confusion": [[0, 0, 2], [1, 0, 1], [1, 1, 1]]}
    result |= {"seconds_features": 1.0, "seconds_training": 1.0, "images_per_second": 10.0, "features_cached": True}
    result |= {"train_images": 8, "test_images": 4, "notes": [], "created_at": "2026-01-02T03:04:05"}
    events = [{"epoch": 1, "loss": 1.0, "top1": final, "mean_per_class": final}]
    return Record(run_id(spec, seed), record_document(spec, seed), result, events)


def detection_record(
    *,
    sparsity: float = 0.0,
    seed: int = 0,
    map50: float = 0.8,
    dataset: str = "/boxes",
    content: str = "data",
    image: str = "a.jpg",
) -> Record:
    """A run of a detector with two classes, of which the second has no test box."""
    spec = DetectionSpec("net", dataset, backbone_hash=f"net{sparsity}", dataset_hash=content, precision="fp32")
    result = {"architecture": "yolov3_tiny", "upstream": "COCO", "sparsity": sparsity, "backbone_sparsity": sparsity}
    result |= {"method": "Magnitude" if sparsity else "Dense", "dataset_name": "boxes", "metric": "mAP@0.5"}
    for when in ("best", "final"):
        result |= {f"accuracy_{when}": map50, f"map50_{when}": map50, f"map_{when}": map50 / 2}
    result |= {"learning_rate": 0.01, "protocol": detection_protocol(spec), "class_names": ["cat", "dog"], "notes": []}
    result |= {"train_images": 8, "test_images": 4, "created_at": "2026-01-02T03:04:05", "seconds_training": 1.0}
    result |= {"sparsity_before": sparsity, "sparsity_after": sparsity, "mask_violations": 0}
    result |= {"precision_by_class": [map50, None], "precision_curves": [[1.0] * 51 + [0.5] * 50, [0.0] * 101]}
    shown = {
        "image": image,
        "kind": "worst",
        "f1": 0.5,
        "truth": [[5, 5, 30, 30, 0]],
        "predicted": [[6, 5, 30, 30, 0, 0.9]],
    }
    result |= {"detections": [shown]}
    events = [{"epoch": 1, "loss": 1.0, "map50": map50, "map": map50 / 2, "mask_violations": 0}]
    return Record(run_id(spec, seed), record_document(spec, seed), result, events)


def write(home: Path, *made: Record) -> None:
    for entry in made:
        Records(home).write(entry)


def write_probes(home: Path) -> None:
    """Two dense runs of 90 and 80 %, one of a backbone of 50 % sparsity with 70 %."""
    write(home, record(seed=0), record(seed=1, best=0.8), record(sparsity=0.5, best=0.7))


def row(method: str, sparsity: float, accuracy: float, seed: int = 0, **others: object) -> dict[str, object]:
    """A row of results as the store gives it, of the user's own runs unless ``others`` say otherwise."""
    base = {"source": "measured", "architecture": "resnet18", "upstream": "ImageNet", "transfer": "linear"}
    base |= {"protocol": "P", "dataset": "digits", "dataset_hash": "h", "metric": "top1", "seed": seed}
    base |= {"method": method, "sparsity": sparsity, "accuracy_best": accuracy, "accuracy_final": accuracy}
    base |= {"network": f"{method}{sparsity}", "network_name": "net", "recipe": "", "replicate": 0, "file_size": None}
    return {**base, "run_id": f"{method}{sparsity}{seed}{accuracy}", **others}


def measured(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(rows)
