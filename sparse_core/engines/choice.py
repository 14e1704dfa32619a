"""The choice between engines, by a measurement made once and remembered."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from torch import nn

from sparse_core.catalog import ENGINES
from sparse_core.engines import availability, compiling
from sparse_core.engines.compiled import median_seconds, noise
from sparse_core.engines.compiling import require_exact
from sparse_core.engines.machine import cores, machine
from sparse_core.errors import InputError
from sparse_core.paths import write_json

WORTH_MEASURING = 5000  # images; extracting fewer takes about as long as measuring the engines


def fastest(
    home: Path,
    module: nn.Module,
    key: str,
    input_size: int,
    batch_size: int,
    precision: str = "fp32",
    images: int | None = None,
) -> str:
    """The fastest available engine that is exact enough, for a backbone whose content hash is ``key``; else torch.

    Measured once per machine, backbone and batch size, then remembered and used for any number of ``images``. A backbone
    not measured yet runs in torch, unmeasured, for fewer than ``WORTH_MEASURING`` images. So does bf16, which no other
    engine has.
    """
    if precision == "bf16":
        return "torch"
    available = [name for name in ENGINES if availability.missing(name) is None]
    circumstances = {"machine": machine(), "cores": cores(), "engines": available}
    identity = json.dumps([circumstances, key, input_size, batch_size], sort_keys=True)
    file = home / "engines" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        return json.loads(file.read_text(encoding="utf-8"))["fastest"]
    if images is not None and images < WORTH_MEASURING:
        return "torch"
    measured = {name: _measure(name, module, input_size, batch_size) for name in available}
    exact = {name: found["milliseconds_per_image"] for name, found in measured.items() if found["is_exact"]}
    chosen = min(exact, key=lambda name: exact[name], default="torch")
    document = {"fastest": chosen, "measured": measured, "backbone": key, "batch_size": batch_size, **circumstances}
    write_json(file, document)
    return chosen


def _measure(name: str, module: nn.Module, input_size: int, batch_size: int) -> dict[str, Any]:
    """ms/image and the difference to PyTorch, or the error of an engine that cannot run the network or is not exact."""
    images = noise(batch_size, input_size)
    try:
        with compiling.compile(name, module, input_size, batch_size) as compiled:
            difference = require_exact(compiled, module)
            seconds = median_seconds(lambda: compiled.run(images))
            return {"milliseconds_per_image": 1e3 * seconds / batch_size, "difference": difference, "is_exact": True}
    except InputError as error:
        return {"error": str(error), "is_exact": False}
