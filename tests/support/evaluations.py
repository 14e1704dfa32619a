"""Records of evaluations, as the product writes them."""

from typing import Any

from sparse_core.results import evaluations


def evaluation(
    network: str = "a" * 64, dataset: str = "imagenet", top1: float = 0.75, **changed: Any
) -> dict[str, Any]:
    """A valid record; ``changed`` are other fields."""
    digest = changed.get("dataset_hash", "" if dataset in evaluations.EVALUATIONS else "d" * 64)
    record = {
        "id": evaluations.new_id(network, dataset, digest),
        "created_at": "2026-11-26T12:00:00+00:00",
        "network": network,
        "backbone": "mine",
        "architecture": "resnet50",
        "method": "AC/DC",
        "upstream": "ImageNet",
        "sparsity": 0.9,
        "dataset": dataset,
        "dataset_hash": digest,
        "data": "/images",
        "top1": top1,
        "mean_per_class": None if dataset == "imagenet-real" else top1,
        "images": 1000,
        "parts": {},
        "seconds": 20.0,
        "product_version": "1.0",
    }
    return {**record, **changed}
