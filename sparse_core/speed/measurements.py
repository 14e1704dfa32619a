"""Records of measured speed on disk: one JSON file per measurement, complete enough to be read in a year. Needs no torch.

``speeds/<id>.json`` holds what was measured, on which machine, by which version, with all samples; ``lines`` has one entry per
engine and batch size. Deleted measurements wait in ``speeds/.trash``.

Background load: ``busy_before`` is the share (0..1) of the cores' time in use just before the start; ``busy_during``, of a line,
the share that other processes used while it was timed; ``load_before`` and ``load_after`` are load averages per core. Of a
line, ``peak_memory_bytes`` comes from ``Compiled.measure_memory`` and ``restarts`` counts how often an engine died and was
started again. Of a detector's line, ``decoding_milliseconds`` and ``nms_milliseconds`` per image come after the network, which
the other times are of. ``image_size`` is in pixels, 0 where a network that classifies images had its own. Values that could not
be determined, or that an older version did not record, are null or absent.
"""

import json
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

from sparse_core import paths, stored
from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import write_json
from sparse_core.specs.speedup import SPEEDUP_MODES
from sparse_core.speed.ratios import paired_ratio
from sparse_core.stored import NUMBER, is_kind, type_problem
from sparse_core.trash import Trash

GAINS = ("faster", "no gain", "slower")
SPREAD_LIMIT = 0.15  # interquartile range over median, above which figures are called unreliable
BUSY = 0.25  # share of the cores' time that other processes use before or meanwhile, above which figures are unreliable

_REQUIRED: stored.Kinds = {
    **{"id": str, "created_at": str, "mode": str, "timing_only": bool, "architecture": str},
    **{"sparsity": NUMBER, "lines": list},
}
_TEXTS = ("backbone", "backbone_hash", "method", "distribution", "form", "product_version", "commit")
_OPTIONAL: stored.Kinds = {
    **dict.fromkeys(_TEXTS, str),
    **{"machine": dict, "spec": dict, "problems": list, "measured_sparsity": NUMBER, "image_size": int},
}
_REQUIRED_IN_LINE: stored.Kinds = {
    **{"engine": str, "batch_size": int, "ratio": NUMBER, "ratio_low": NUMBER, "ratio_high": NUMBER},
    **{"gain": str, "reliable": bool, "threads": int},
    **dict.fromkeys(("milliseconds_per_image", "dense_milliseconds_per_image"), NUMBER),
}
_OPTIONAL_IN_LINE: stored.Kinds = {
    **{"samples": dict, "quartiles": list, "split": dict, "dense_split": dict, "layers": list, "dataset": str},
    **{"engine_version": str, "precision": str, "interval_method": str, "accuracy": NUMBER},
    **dict.fromkeys(("seconds_per_epoch", "dense_seconds_per_epoch", "spread", "busy_during"), NUMBER),
    **dict.fromkeys(("decoding_milliseconds", "nms_milliseconds"), NUMBER),
}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")

_QUARTILES = ("quartile_low", "quartile_high", "dense_quartile_low", "dense_quartile_high")
_NUMBERS = (
    *("sparsity", "measured_sparsity", "busy_before", "busy_during", "load_before", "load_after", "cores"),
    *("batch_size", "threads", "milliseconds_per_image", "dense_milliseconds_per_image", "images_per_second"),
    *("ratio", "ratio_low", "ratio_high", "spread", *_QUARTILES, "rounds", "seconds_to_compile", "peak_memory_bytes"),
    *("seconds_per_epoch", "dense_seconds_per_epoch", "accuracy", "output_difference"),
    *("image_size", "decoding_milliseconds", "nms_milliseconds"),
)
COLUMNS = (
    *("measurement", "created_at", "mode", "timing_only", "backbone", "backbone_hash", "architecture", "method"),
    *(
        "distribution",
        "form",
        "product_version",
        "commit",
        "dataset",
        "processor",
        "engine",
        "engine_version",
        "precision",
    ),
    *("gain", "reliable", "interval_method", *_NUMBERS),
)


def folder(home: Path) -> Path:
    """The folder of the measurements."""
    return home / "speeds"


def new_id() -> str:
    """A unique name for a measurement, beginning with the local time."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"


def write(home: Path, record: dict[str, Any]) -> Path:
    """Write a measurement under its ``id``, all of it or nothing; returns its file. Raises InputError if it is invalid."""
    _require_valid(record)
    target = folder(home) / f"{record['id']}.json"
    write_json(target, record)
    return target


def read_all(home: Path) -> list[dict[str, Any]]:
    """Every valid measurement, oldest first; other files are left out: see ``stored``."""
    found = (_read(file) for file in sorted(folder(home).glob("*.json")))
    return sorted(filter(None, found), key=lambda record: (record["created_at"], record["id"]))


def shipped() -> list[dict[str, Any]]:
    """The measurements that come with the product, made on another machine, oldest first; ``shipped`` is true in each."""
    return [{**record, "shipped": True} for record in read_all(paths.SHIPPED)]


def delete(home: Path, measurement: str) -> None:
    """Move a measurement to the trash. Raises InputError for an unknown one."""
    source = folder(home) / f"{measurement}.json"
    if not _ID.fullmatch(measurement) or not source.is_file():
        raise unknown_name("measurement", measurement, (file.stem for file in folder(home).glob("*.json")))
    _trash(home).put(source)


def restore(home: Path, measurement: str) -> None:
    """Restore a measurement from the trash. Raises InputError if it is not there."""
    if not _ID.fullmatch(measurement):
        raise InputError(f"Measurement '{measurement}' is not in the trash, so it cannot be restored.")
    _trash(home).restore(f"{measurement}.json", folder(home) / f"{measurement}.json")


def frame(home: Path, records: Sequence[dict[str, Any]] | None = None) -> pd.DataFrame:
    """The lines of these records (of all by default), one row each, with columns ``COLUMNS``.

    ``sparsity`` is nominal and ``measured_sparsity`` that of the network, both 0..1; quartiles are ms/image, of the sparse
    network and of the dense one; ``output_difference`` is the largest one to PyTorch in fp32, relative. Samples and layers are
    left out.
    """
    records = read_all(home) if records is None else records
    rows = [_row(record, line) for record in records for line in record["lines"]]
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    table = table.fillna(dict.fromkeys((*_TEXTS, "dataset", "processor", "engine_version"), ""))
    table = table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in _NUMBERS})
    return table.assign(image_size=table["image_size"].fillna(0).astype(int))


def fingerprint(home: Path) -> tuple[int, int]:
    """Changes whenever a measurement is added or deleted; cheap enough to ask on every page."""
    if not folder(home).is_dir():
        return (0, 0)
    return (folder(home).stat().st_mtime_ns, len(os.listdir(folder(home))))


def _row(record: dict[str, Any], line: dict[str, Any]) -> dict[str, Any]:
    line = {**line, **_interval(line)}
    machine, samples = record.get("machine") or {}, line.get("samples") or {}
    dense = pd.to_numeric(pd.Series(samples.get("dense") or [np.nan]), errors="coerce")
    quartiles = (*(line.get("quartiles") or ()), np.nan, np.nan)[:2]
    return {
        **{**record, **line, "sparsity": record["sparsity"], "measurement": record["id"]},
        "dataset": (record.get("spec") or {}).get("dataset", ""),
        "form": record.get("form") or "",
        "processor": machine.get("processor", ""),
        "cores": machine.get("cores"),
        **dict(zip(_QUARTILES, (*quartiles, *np.percentile(dense, [25, 75])), strict=True)),
        "rounds": len(samples.get("sparse", ())),
        "output_difference": line.get("difference"),
        # Lines without ``busy_during`` are older and hold the memory of the whole process, which is not comparable.
        "peak_memory_bytes": line.get("peak_memory_bytes") if "busy_during" in line else None,
    }


def _interval(line: dict[str, Any]) -> dict[str, Any]:
    """The interval of a line from a version that bootstrapped it, from its samples: three rounds covered 74 % instead of 95 %."""
    samples = line.get("samples") or {}
    if "interval_method" in line or not samples:
        return {}
    try:
        ratio = paired_ratio(samples["dense"], samples["sparse"])
    except (InputError, KeyError, TypeError, ValueError):
        return {}
    return {"ratio_low": ratio.low, "ratio_high": ratio.high, "gain": ratio.gain, "interval_method": ratio.method}


def _read(file: Path) -> dict[str, Any] | None:
    with stored.reading(file):
        record = json.loads(file.read_bytes())
        _require_valid(record)
        if record["id"] != file.stem:
            raise InputError("not a measurement of speed: its name differs from the 'id' in it")
        return record
    return None


def _require_valid(record: Any) -> None:
    found = problem(record)
    if found:
        raise InputError(f"Not a measurement of speed: {found}.")


def problem(record: Any) -> str:
    """Why ``record`` is not a valid measurement; empty if it is."""
    found = type_problem(record, _REQUIRED, _OPTIONAL)
    found = found or type_problem(
        record.get("machine") or {}, {}, {"processor": str, "cores": NUMBER}, " of the machine"
    )
    found = found or type_problem(record.get("spec") or {}, {}, {"dataset": str}, " of the spec")
    if found:
        return found
    if record["mode"] not in SPEEDUP_MODES:
        return f"its 'mode' is not one of {', '.join(SPEEDUP_MODES)}"
    if not _ID.fullmatch(record["id"]):
        return "its 'id' has other characters than letters, digits, - and _"
    try:
        datetime.fromisoformat(record["created_at"])
    except ValueError:
        return "its 'created_at' is not a time such as 2026-01-31T12:00:00"
    return next(filter(None, map(_line_problem, record["lines"])), "")


def _line_problem(line: Any) -> str:
    found = type_problem(line, _REQUIRED_IN_LINE, _OPTIONAL_IN_LINE, " of a line")
    if found:
        return found
    if line["gain"] not in GAINS:
        return f"the 'gain' of a line is not one of {', '.join(GAINS)}"
    samples, shares = line.get("samples") or {}, line.get("layers") or []
    numbers = [*(line.get("split") or {}).values(), *(line.get("dense_split") or {}).values()]
    numbers += [share[1] if isinstance(share, list | tuple) and len(share) == 2 else "" for share in shares]
    if not all(isinstance(times, list) for times in samples.values()):
        return "the 'samples' of a line are not lists"
    return "" if all(is_kind(number, NUMBER) for number in numbers) else "a part of a line is not a number"


def _trash(home: Path) -> Trash:
    return Trash(folder(home) / ".trash")
