"""Rows of results as the store gives them, of the user's own runs unless stated otherwise."""

import pandas as pd


def row(method: str, sparsity: float, accuracy: float, seed: int = 0, **others: object) -> dict[str, object]:
    base = {"source": "measured", "architecture": "resnet18", "upstream": "ImageNet", "transfer": "linear"}
    base |= {"protocol": "P", "dataset": "digits", "dataset_hash": "h", "metric": "top1", "seed": seed}
    base |= {"method": method, "sparsity": sparsity, "accuracy_best": accuracy, "accuracy_final": accuracy}
    return {**base, "run_id": f"{method}{sparsity}{seed}{accuracy}", **others}


def measured(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(rows)
