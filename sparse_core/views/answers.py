"""What the command line prints: of the runs of a transfer, and how."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sparse_core.datasets.boxes import METRIC
from sparse_core.networks import finetuned
from sparse_core.paths import finite
from sparse_core.results.records import Record


def print_answer(answer: Any, *, as_json: bool) -> bool:
    """Print the answer of a verb, as one JSON document or as a table; False if the reader closed stdout, as ``| head`` does."""
    try:
        print(json.dumps(finite(answer), allow_nan=False) if as_json else _as_table(answer))
        sys.stdout.flush()  # here, where the error is handled
    except BrokenPipeError:  # the remedy is that of Python's library reference, ``signal``, "Note on SIGPIPE"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _as_table(answer: Any) -> str:
    if isinstance(answer, list):
        return pd.DataFrame(answer).to_string(index=False) if answer else "No entries."
    shown = pd.Series({name: value for name, value in answer.items() if name != "runs"}, dtype=object).to_string()
    runs = answer.get("runs")
    return f"{shown}\n{pd.DataFrame(runs).to_string(index=False)}" if isinstance(runs, list) else shown


def probe_answer(records: Sequence[Record]) -> dict[str, Any]:
    """What ``probe`` prints about its runs: each seed's accuracies, then mean and standard deviation (n − 1) of the best."""
    kept = ("seconds_features", "seconds_training", "protocol")
    return _transfer_answer(records, ()) | {name: records[0].result[name] for name in kept}


def finetune_answer(home: Path, records: Sequence[Record]) -> dict[str, Any]:
    """What ``finetune`` prints: as ``probe``, with the sparsity of the backbone's convolutions before and after, the weights
    that violate the mask in any run, and the file of each finetuned network (``checkpoint`` is the first run's)."""
    results = [record.result for record in records]
    answer = _transfer_answer(records, ("sparsity_before", "sparsity_after", "mask_violations"))
    for run in answer["runs"]:
        run["checkpoint"] = str(finetuned.file(home, run["run_id"]))
    kept = ("sparsity_before", "sparsity_after", "checkpoint")
    return {
        **answer,
        **{name: answer["runs"][0][name] for name in kept},
        **{name: sum(result[name] for result in results) for name in ("mask_violations", "seconds_training")},
        "protocol": results[0]["protocol"],
    }


def _transfer_answer(records: Sequence[Record], more: Sequence[str]) -> dict[str, Any]:
    """Metric, runs (with the fields ``more`` of each result) and the best accuracy's mean and standard deviation."""
    fields = ["learning_rate", *more]
    metrics = ("map50", "map") if records[0].result["metric"] == METRIC else ("accuracy", "top1", "mean_per_class")
    fields += [f"{name}_{when}" for name in metrics for when in ("best", "final")]
    best = pd.Series([record.result["accuracy_best"] for record in records])
    runs = [
        {"seed": record.spec["seed"], "run_id": record.run_id, **{name: record.result[name] for name in fields}}
        for record in records
    ]
    if metrics[0] == "map50":
        means = {f"{name}_mean": _mean_of(records, f"{name}_best") for name in metrics}
        return {"metric": METRIC, "runs": runs, **means, "map50_std": float(best.std())}
    metric = records[0].result["metric"]
    return {"metric": metric, "runs": runs, "accuracy_mean": float(best.mean()), "accuracy_std": float(best.std())}


def _mean_of(records: Sequence[Record], name: str) -> float:
    return float(pd.Series([record.result[name] for record in records]).mean())
