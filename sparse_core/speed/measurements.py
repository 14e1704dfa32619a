"""The measurements of speed on disk: one JSON file a measurement, to be read in a year. Needs no torch.

``speeds/<id>.json`` holds what was measured, on which machine, by which version, with all samples. A measurement that is
deleted waits in ``speeds/.trash`` until it is restored.

Of other work on the machine it holds: ``busy_before``, the share (0..1) of the cores' time that was taken just before the start;
a line's ``busy_during``, the share that others than the measurement took while it was timed; ``load_before`` and ``load_after``,
waiting processes a core in the minute before. ``peak_memory_bytes`` of a line is ``engines.Compiled.measure_memory``'s, and
``restarts`` how often an engine died and was started again. What could not be told, or was not yet when it was measured, is null.
"""

import json
import math
import os
import re
import secrets
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import write_text

GAINS = ("faster", "no gain", "slower")
SPREAD_LIMIT = 0.15  # interquartile range over median, above which figures are called unreliable
BUSY = 0.25  # share of the cores' time that other work took just before or meanwhile, above which they are, too

# Without these a file is no measurement; what else it holds may be absent.
_NEEDED = {
    "id": str,
    "created_at": str,
    "mode": str,
    "timing_only": bool,
    "architecture": str,
    "sparsity": (int, float),
}
_NEEDED_IN_LINE = {
    **{"engine": str, "batch_size": int, "ratio": (int, float)},
    **{"ratio_low": (int, float), "ratio_high": (int, float), "gain": str, "reliable": bool},
}
# What may be absent is of this kind where it is there.
_KINDS = {"machine": dict, "spec": dict, "problems": list}
_KINDS_IN_LINE = {"samples": dict, "quartiles": list, "split": dict, "dense_split": dict, "layers": list}

_RECORD_FIELDS = {
    "id": "measurement",
    **{
        name: name
        for name in (
            *("created_at", "mode", "timing_only", "backbone", "backbone_hash", "architecture", "method", "sparsity"),
            *(
                "distribution",
                "measured_sparsity",
                "busy_before",
                "load_before",
                "load_after",
                "product_version",
                "commit",
            ),
        )
    },
}
_LINE_FIELDS = {
    **{name: name for name in ("engine", "engine_version", "precision", "batch_size", "threads")},
    **{
        name: name
        for name in (
            *("milliseconds_per_image", "dense_milliseconds_per_image", "ratio", "ratio_low", "ratio_high", "gain"),
            *("reliable", "spread", "busy_during", "images_per_second", "seconds_to_compile", "peak_memory_bytes"),
            *("seconds_per_epoch", "dense_seconds_per_epoch", "accuracy"),
        )
    },
    "difference": "output_difference",
}
COLUMNS = (
    *_RECORD_FIELDS.values(),
    *("dataset", "processor", "cores"),
    *_LINE_FIELDS.values(),
    *("quartile_low", "quartile_high", "dense_quartile_low", "dense_quartile_high", "rounds"),
)
_NUMBERS = (
    *(
        "sparsity",
        "busy_before",
        "busy_during",
        "load_before",
        "load_after",
        "cores",
        "batch_size",
        "threads",
        "measured_sparsity",
        "ratio",
    ),
    *("milliseconds_per_image", "dense_milliseconds_per_image", "ratio_low", "ratio_high", "spread"),
    *("images_per_second", "seconds_to_compile", "peak_memory_bytes", "seconds_per_epoch", "dense_seconds_per_epoch"),
    *("accuracy", "output_difference", "quartile_low", "quartile_high", "dense_quartile_low", "dense_quartile_high"),
    "rounds",
)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


def folder(home: Path) -> Path:
    """Where the measurements lie."""
    return home / "speeds"


def new_id() -> str:
    """A name for a measurement: when it was made, and something that no other has."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"


def write(home: Path, record: dict[str, Any]) -> Path:
    """Keep a measurement under its ``id``, all of it or nothing; returns its file. Raises InputError where it is none."""
    wrong = _wrong(record)
    if wrong:
        raise InputError(f"Not a measurement of speed: {wrong}.")
    target = folder(home) / f"{record['id']}.json"
    write_text(target, json.dumps(_finite(record), indent=1, allow_nan=False))
    return target


def read_all(home: Path) -> list[dict[str, Any]]:
    """Every measurement that can be read, oldest first."""
    return _scan(home)[0]


def damaged(home: Path) -> list[str]:
    """One line for each file that is no measurement: its name and what is wrong with it."""
    return _scan(home)[1]


def delete(home: Path, measurement: str) -> None:
    """Move a measurement into the trash, from which ``restore`` brings it back."""
    source = folder(home) / f"{measurement}.json"
    if not _ID.fullmatch(measurement) or not source.is_file():
        raise unknown_name("measurement", measurement, (file.stem for file in folder(home).glob("*.json")))
    _trash(home).mkdir(parents=True, exist_ok=True)
    os.replace(source, _trash(home) / source.name)


def restore(home: Path, measurement: str) -> None:
    """Bring a deleted measurement back. Raises InputError where the trash does not hold it."""
    source = _trash(home) / f"{measurement}.json"
    if not _ID.fullmatch(measurement) or not source.is_file():
        raise InputError(f"Measurement '{measurement}' is not in the trash, so it cannot be restored.")
    os.replace(source, folder(home) / source.name)


def frame(home: Path, records: Sequence[dict[str, Any]] | None = None) -> pd.DataFrame:
    """One row a line of these records (of all by default), columns ``COLUMNS``: what was timed, and what came out.

    ``sparsity`` is nominal and ``measured_sparsity`` that of the network, both 0..1; quartiles are milliseconds an image, of
    the sparse network and of the dense one; ``output_difference`` is the largest one to torch in fp32, relative. Samples and
    layers stay behind.
    """
    rows = [
        _row(record, line) for record in (read_all(home) if records is None else records) for line in record["lines"]
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in _NUMBERS}
    return table.assign(**numbers)


def fingerprint(home: Path) -> tuple[int, int]:
    """Changes whenever a measurement is added or deleted; cheap enough to ask on every page."""
    if not folder(home).is_dir():
        return (0, 0)
    return (folder(home).stat().st_mtime_ns, len(os.listdir(folder(home))))


def _row(record: dict[str, Any], line: dict[str, Any]) -> dict[str, Any]:
    low, high = (*(line.get("quartiles") or ()), math.nan, math.nan)[:2]
    machine = record.get("machine") or {}
    samples = line.get("samples") or {}
    dense = pd.to_numeric(pd.Series(samples.get("dense") or [math.nan]), errors="coerce")
    dense_low, dense_high = (float(value) for value in np.percentile(dense, [25, 75]))
    return {
        **{column: record.get(name) for name, column in _RECORD_FIELDS.items()},
        "dataset": (record.get("spec") or {}).get("dataset", ""),
        "processor": machine.get("processor", ""),
        "cores": machine.get("cores"),
        **{column: line.get(name) for name, column in _LINE_FIELDS.items()},
        **{"quartile_low": low, "quartile_high": high},
        **{"dense_quartile_low": dense_low, "dense_quartile_high": dense_high},
        "rounds": len(samples.get("sparse", ())),
        # Lines without ``busy_during`` are older and tell the memory of the whole process, which compares with nothing.
        "peak_memory_bytes": line.get("peak_memory_bytes") if "busy_during" in line else None,
    }


def _scan(home: Path) -> tuple[list[dict[str, Any]], list[str]]:
    found, problems = [], []
    for file in sorted(folder(home).glob("*.json")):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            problems.append(f"{file.name} cannot be read, so it is left out.")
            continue
        wrong = _wrong(record)
        if not wrong and record["id"] != file.stem:
            wrong = "it bears another name than the measurement in it"
        if wrong:
            problems.append(f"{file.name} is no measurement of speed ({wrong}), so it is left out.")
        else:
            found.append(record)
    return sorted(found, key=lambda record: (record["created_at"], record["id"])), problems


def _wrong(record: Any) -> str:
    """What keeps ``record`` from being a measurement, in words; empty where nothing does."""
    if not isinstance(record, dict):
        return "it is no object"
    for name, kind in _NEEDED.items():
        if not isinstance(record.get(name), kind):  # type: ignore[arg-type]
            return f"'{name}' is missing or of the wrong kind"
    for name, kind in _KINDS.items():
        if record.get(name) is not None and not isinstance(record[name], kind):
            return f"'{name}' is of the wrong kind"
    if not _ID.fullmatch(record["id"]):
        return "its 'id' is no plain word"
    if not _is_time(record["created_at"]):
        return "its 'created_at' is no time such as 2026-01-31T12:00:00"
    lines = record.get("lines")
    if not isinstance(lines, list):
        return "'lines' is missing or of the wrong kind"
    for line in lines:
        for name, kind in _NEEDED_IN_LINE.items():
            if not isinstance(line, dict) or not isinstance(line.get(name), kind):  # type: ignore[arg-type]
                return f"'{name}' of a line is missing or of the wrong kind"
        for name, kind in _KINDS_IN_LINE.items():
            if line.get(name) is not None and not isinstance(line[name], kind):
                return f"'{name}' of a line is of the wrong kind"
        if line["gain"] not in GAINS:
            return f"the 'gain' of a line is none of {', '.join(GAINS)}"
    return ""


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _finite(value: Any) -> Any:
    """The same with null for what is not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _trash(home: Path) -> Path:
    return folder(home) / ".trash"
