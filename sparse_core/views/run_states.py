"""Every run with its state: those that the store holds, and those that a job was asked for and has not given."""

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from sparse_core.jobs.queue import Status
from sparse_core.networks import library
from sparse_core.specs.identity import recorded, to_json
from sparse_core.specs.transfer import ProbeSpec, TransferSpec, protocol

WORDS = {"queued": "waiting", "running": "running", "done": "done", "failed": "failed", "cancelled": "cancelled"}
TRANSFERS = ("probe", "finetune")


def with_states(home: Path, rows: pd.DataFrame, statuses: Iterable[Status]) -> pd.DataFrame:
    """The store's measured rows with ``state`` (words), after a row for each run that jobs have not given.

    ``statuses`` are those of jobs, newest first: of several attempts at a run the newest tells its state, unless the run is
    there. What only a finished run has is missing from the others' rows.
    """
    unfinished = {run: status for run, status in _newest(statuses).items() if status.state != "done"}
    finished = rows.assign(state=WORDS["done"])
    if not unfinished:
        return finished
    specs = [json.loads(spec) for spec in rows["spec"]]
    there = {_run(recorded(spec), spec["seed"]) for spec in specs}
    cards = {card.name: dataclasses.asdict(card) for card in library.available(home)}
    new = [
        _row(status, seed, cards.get(spec.backbone, {}))
        for (spec, seed), status in unfinished.items()
        if (spec, seed) not in there
    ]
    return pd.concat([pd.DataFrame(new, columns=finished.columns), finished], ignore_index=True) if new else finished


def _newest(statuses: Iterable[Status]) -> dict[tuple[TransferSpec, int], Status]:
    """The newest job that was asked for each run."""
    found: dict[tuple[TransferSpec, int], Status] = {}
    for status in statuses:
        for seed in status.job.seeds if status.job.kind in TRANSFERS else ():
            found.setdefault(_run(status.job.spec, seed), status)
    return found


def _run(spec: TransferSpec, seed: int) -> tuple[TransferSpec, int]:
    """What tells a run from others already before its names are resolved and what is automatic is settled."""
    plain = dataclasses.replace(spec, backbone_hash="", dataset_hash="")
    if isinstance(plain, ProbeSpec):
        return dataclasses.replace(plain, engine="auto"), seed
    return dataclasses.replace(plain, precision="auto"), seed


def _row(status: Status, seed: int, card: dict[str, Any]) -> dict[str, Any]:
    spec: TransferSpec = status.job.spec
    return {
        "source": "measured",
        **{name: card.get(name) for name in ("architecture", "upstream", "method")},
        "sparsity": card.get("sparsity", math.nan),
        "transfer": spec.transfer,
        "dataset": Path(spec.dataset).name,  # as the record will name a folder or file of the user's
        "protocol": protocol(spec),
        "seed": seed,
        "replicate": spec.replicate,
        "backbone": spec.backbone,
        "spec": to_json(spec),
        "state": WORDS[status.state],
    }
