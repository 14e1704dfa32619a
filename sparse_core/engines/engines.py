"""Engines that run a backbone: compiled at a batch size and a number of threads, (N, 3, S, S) images to (N, D) features.

DeepSparse skips the weights that are zero; ONNX Runtime and PyTorch are the dense controls. ``missing`` tells which there are.
Nothing here imports torch before a network is compiled.
"""

import contextlib
import copy
import hashlib
import itertools
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sparse_core.catalog import ENGINES, PRECISIONS
from sparse_core.engines import deepsparse_client
from sparse_core.engines.availability import missing
from sparse_core.engines.machine import PeakMemory, machine
from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import write_text

# Largest difference to torch in fp32, relative to the largest feature, up to which a figure is kept.
TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2}

CHECKED_IMAGES = 4
TORCH_CHUNK = 8  # larger activations are mapped anew for each layer by the C library
WORTH_MEASURING = 5000  # images; fewer are almost done before the engines are measured
MEASURE_SECONDS = 1.0


class Compiled:
    """A backbone compiled by one engine. ``precision`` is that of its arithmetic, fp32 or bf16; ``threads`` what it uses;
    ``version`` is the engine's; ``notes`` are sentences to show beside its figures; ``peak_memory_bytes`` is what
    ``measure_memory`` found. To be closed, or used in a ``with``."""

    def __init__(self, engine: str, input_size: int, batch_size: int, threads: int) -> None:
        self.engine = engine
        self.version = ""
        self.input_size = input_size
        self.batch_size = batch_size
        self.threads = threads
        self.precision = "fp32"
        self.seconds_to_compile = 0.0
        self.notes: tuple[str, ...] = ()
        self.peak_memory_bytes: int | None = None

    def run(self, images: np.ndarray) -> np.ndarray:
        """Prepared images (N, 3, S, S) float32 to features (N, D) float32, for any N, in batches; the last is padded."""
        expected = (3, self.input_size, self.input_size)
        if images.ndim != 4 or images.shape[1:] != expected or not len(images):
            raise InputError(f"Expected images of shape (N, {', '.join(map(str, expected))}); got {images.shape}.")
        starts = range(0, len(images), self.batch_size)
        features = [self._run_batch(images[start : start + self.batch_size]) for start in starts]
        return features[0] if len(features) == 1 else np.concatenate(features)

    def layer_shares(self, rounds: int = 3) -> dict[str, float] | None:
        """The share of its time, in [0, 1], that each of the network's layers takes, and "other" for what is none; from a
        separate measurement of ``rounds`` batches. None where the engine does not tell."""
        milliseconds = self._layer_milliseconds(rounds)
        if not milliseconds:
            return None
        total = sum(value for _, value in milliseconds)
        shares: dict[str, float] = {}
        for node, value in milliseconds:
            shares[layer_name(node)] = shares.get(layer_name(node), 0.0) + value / total
        return shares

    @property
    def restarts(self) -> int:
        """How often the engine's process died and was started again. A time that this fell into is none of the network's."""
        return 0

    def measure_memory(self) -> None:
        """Run a batch and set ``peak_memory_bytes``: the most resident memory that the engine's process held since just before
        it compiled the network, above what it held then. None where the system cannot tell.

        So it counts the network as the engine keeps it, what compiling took, and a batch with its activations, for this engine
        and batch size alone: DeepSparse's in a process of its own, the others' in this one, once an ONNX file is written. As
        this one is shared, it is to be called right after ``compile``.
        """
        self.run(noise(self.batch_size, self.input_size))
        self.peak_memory_bytes = self._memory().rise()

    def close(self) -> None:
        """Give back what the engine holds."""

    def __enter__(self) -> "Compiled":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run_batch(self, images: np.ndarray) -> np.ndarray:
        """At most ``batch_size`` images to their features."""
        raise NotImplementedError

    def _layer_milliseconds(self, rounds: int) -> list[tuple[str, float]]:
        return []

    def _memory(self) -> PeakMemory:
        """That of the engine's process, begun just before the network was compiled."""
        raise NotImplementedError


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compile(
    name: str, module: Any, input_size: int, batch_size: int, threads: int = 0, precision: str = "fp32"
) -> Compiled:
    """Make ``module`` (in evaluation mode, (N, 3, S, S) to (N, D)) ready to run by an engine.

    ``threads`` 0 means all cores. ``precision`` fp32, bf16 (PyTorch only), or best: PyTorch's faster one of the two,
    by a short measurement, bf16 only where the processor has it. Raises InputError, one line each, for an engine that is
    missing, a batch size below 1, more threads than cores, and a network that the engine cannot do.
    """
    reason = missing(name)
    if reason:
        raise InputError(reason)
    if precision not in (*PRECISIONS, "best"):
        raise unknown_name("precision", precision, (*PRECISIONS, "best"))
    if precision == "bf16" and name != "torch":
        raise InputError(f"{ENGINES[name]} computes in fp32 here; precision bf16 needs the engine torch.")
    for what, value in (("batch size", batch_size), ("input size", input_size)):
        if value < 1:
            raise InputError(f"The {what} must be at least 1; got {value}.")
    if not 0 <= threads <= cores():
        raise InputError(f"Expected 1 to {cores()} threads, as many as this machine has cores; got {threads}.")
    started = time.perf_counter()
    compiled = _compile(name, module, input_size, batch_size, threads or cores(), precision)
    compiled.seconds_to_compile = time.perf_counter() - started
    return compiled


def check(compiled: Compiled, module: Any, images: np.ndarray) -> float:
    """The largest difference of the engine's features to those of ``module`` in torch, fp32, relative to the largest
    feature; infinite where they are not finite. To be held against ``TOLERANCE[compiled.precision]``."""
    import torch

    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        chunks = torch.from_numpy(images).split(TORCH_CHUNK)
        expected = torch.cat([module(chunk) for chunk in chunks]).float().numpy()
    difference = float(np.abs(compiled.run(images) - expected).max())
    if not np.isfinite(difference):
        return float("inf")
    return difference / (float(np.abs(expected).max()) or 1.0)


def is_exact(compiled: Compiled, difference: float) -> bool:
    """Whether a difference that ``check`` found is small enough to keep the engine's figures."""
    return difference <= TOLERANCE[compiled.precision]


def require_exact(compiled: Compiled, module: Any) -> float:
    """What ``check`` gives on noise; raises InputError where it is too large to go on."""
    difference = check(compiled, module, noise(CHECKED_IMAGES, compiled.input_size))
    if not is_exact(compiled, difference):
        raise InputError(
            f"The output of {ENGINES[compiled.engine]} differs from PyTorch's in fp32 by {difference:.1e} of the largest "
            f"value, above {TOLERANCE[compiled.precision]:.0e}, so no figure was kept."
        )
    return difference


def fastest(
    home: Path,
    module: Any,
    key: str,
    input_size: int,
    batch_size: int,
    precision: str = "fp32",
    images: int | None = None,
) -> str:
    """The fastest engine here that is exact enough, for a backbone whose content hash is ``key``, where that is known or worth
    finding out; else torch.

    Measured once for each machine, backbone and batch size, then remembered and taken for any number of ``images``. A
    backbone not measured yet goes to torch, unmeasured, where fewer than ``WORTH_MEASURING`` are to be run. So does bf16,
    which no other engine has.
    """
    if precision == "bf16":
        return "torch"
    here = [name for name in ENGINES if missing(name) is None]
    circumstances = {"machine": machine(), "cores": cores(), "engines": here}
    identity = json.dumps([circumstances, key, input_size, batch_size], sort_keys=True)
    file = home / "engines" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        return json.loads(file.read_text(encoding="utf-8"))["fastest"]
    if images is not None and images < WORTH_MEASURING:
        return "torch"
    measured = {name: _measure(name, module, input_size, batch_size) for name in here}
    exact = {name: found["milliseconds_per_image"] for name, found in measured.items() if found["is_exact"]}
    chosen = min(exact, key=lambda name: exact[name], default="torch")
    document = {"fastest": chosen, "measured": measured, "backbone": key, "batch_size": batch_size, **circumstances}
    write_text(file, json.dumps(document, indent=1))
    return chosen


def layer_name(node: str) -> str:
    """The module behind an ONNX node, or behind the first of those that were fused: ``/layer1/layer1.0/conv1/Conv`` to
    ``layer1.0.conv1``; "other" where there is none."""
    scopes = node.split(",")[0].split("/")[1:-1]
    inner = [scope for scope, next_one in itertools.pairwise(scopes) if not next_one.startswith(f"{scope}.")]
    return ".".join([*inner, *scopes[-1:]]) or "other"


def _measure(name: str, module: Any, input_size: int, batch_size: int) -> dict[str, Any]:
    """Milliseconds an image, the difference to torch and whether that is small enough."""
    images = noise(batch_size, input_size)
    try:
        with compile(name, module, input_size, batch_size) as compiled:
            difference = check(compiled, module, images[:CHECKED_IMAGES])
            seconds = _seconds(lambda: compiled.run(images))
            exact = is_exact(compiled, difference)
            return {"milliseconds_per_image": 1e3 * seconds / batch_size, "difference": difference, "is_exact": exact}
    except InputError as error:
        return {"error": str(error), "is_exact": False}


def noise(images: int, side: int) -> np.ndarray:
    """Images (N, 3, S, S) of standard normal noise, the same each time, to time and to check engines with."""
    return np.random.default_rng(0).standard_normal((images, 3, side, side), dtype=np.float32)


def _seconds(work: Callable[[], object]) -> float:
    """The median time of ``work``, repeated for about ``MEASURE_SECONDS``, at least twice, after one to warm up."""
    work()
    times: list[float] = []
    while len(times) < 2 or sum(times) < MEASURE_SECONDS:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _compile(name: str, module: Any, input_size: int, batch_size: int, threads: int, precision: str) -> Compiled:
    if name == "torch":
        return _Torch(module, input_size, batch_size, threads, precision)
    kind = _DeepSparse if name == "deepsparse" else _OnnxRuntime
    return kind(module, input_size, batch_size, threads)


class _FromOnnx(Compiled):
    """An engine that reads the backbone from an ONNX file, which lies in a folder of its own till ``close``."""

    def __init__(self, engine: str, module: Any, input_size: int, batch_size: int, threads: int) -> None:
        super().__init__(engine, input_size, batch_size, threads)
        from sparse_core.networks import onnx_export

        self._folder = tempfile.TemporaryDirectory(prefix="sparse-transfer-")
        self._onnx = Path(self._folder.name) / "backbone.onnx"
        try:
            onnx_export.backbone(module, input_size, self._onnx, batch_size)
            self._load()
        except BaseException:
            self._folder.cleanup()
            raise

    def close(self) -> None:
        self._folder.cleanup()

    def _load(self) -> None:
        raise NotImplementedError


class _DeepSparse(_FromOnnx):
    def __init__(self, module: Any, input_size: int, batch_size: int, threads: int) -> None:
        super().__init__("deepsparse", module, input_size, batch_size, threads)

    def _load(self) -> None:
        shape = (self.batch_size, 3, self.input_size, self.input_size)
        self._process = deepsparse_client.Process(self._onnx, shape, self.threads)
        self.threads = self._process.compiled["threads"]
        self.version = self._process.compiled["version"]
        supported = self._process.compiled["supported"]
        if not supported:
            self._process.close()
            raise InputError("DeepSparse supports none of this network's operators. Use another engine.")
        if supported < 1:
            self.notes = (f"DeepSparse leaves {1 - supported:.0%} of the operators to a slower fallback.",)

    def _run_batch(self, images: np.ndarray) -> np.ndarray:
        return self._process.run(images)

    def _layer_milliseconds(self, rounds: int) -> list[tuple[str, float]]:
        return [(name, value) for name, value in self._process.ask("layers", rounds=rounds)["layers"]]

    @property
    def restarts(self) -> int:
        return self._process.restarts

    def _memory(self) -> PeakMemory:
        return self._process.memory

    def close(self) -> None:
        self._process.close()
        super().close()


class _OnnxRuntime(_FromOnnx):
    def __init__(self, module: Any, input_size: int, batch_size: int, threads: int) -> None:
        super().__init__("onnxruntime", module, input_size, batch_size, threads)

    def _load(self) -> None:
        import onnxruntime

        self.version = onnxruntime.__version__
        self._since_compiling = PeakMemory()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(self._onnx), options, providers=["CPUExecutionProvider"])

    def _run_batch(self, images: np.ndarray) -> np.ndarray:
        given = len(images)
        if given < self.batch_size:
            images = np.concatenate([images, np.zeros((self.batch_size - given, *images.shape[1:]), np.float32)])
        (features,) = self._session.run(None, {"images": np.ascontiguousarray(images, np.float32)})
        return features[:given]

    def _memory(self) -> PeakMemory:
        return self._since_compiling


class _Torch(Compiled):
    """The fastest of a few ways that torch has, by a short measurement; in chunks, which it does faster than large batches."""

    def __init__(self, module: Any, input_size: int, batch_size: int, threads: int, precision: str) -> None:
        super().__init__("torch", input_size, batch_size, threads)
        import torch

        from sparse_core.transfer.probe import native_bf16

        self.version = str(torch.__version__)
        self._since_compiling = PeakMemory()
        sample = torch.zeros(min(batch_size, TORCH_CHUNK), 3, input_size, input_size)
        own = copy.deepcopy(module).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        ways: list[tuple[str, Callable[[Any], Any]]] = []
        if precision != "bf16":
            ways += [("fp32", own), ("fp32", _frozen(own, sample))]
        if precision == "bf16" or (precision == "best" and native_bf16()):
            ways += [("bf16", _in_bf16(own))]
        self.precision, self._forward = ways[0]
        if len(ways) > 1:
            with self._threads(), torch.inference_mode():
                seconds = [_seconds(lambda way=way: way(sample)) for _, way in ways]  # type: ignore[misc]
            self.precision, self._forward = ways[seconds.index(min(seconds))]

    def _run_batch(self, images: np.ndarray) -> np.ndarray:
        import torch

        chunks = torch.from_numpy(np.ascontiguousarray(images, np.float32)).split(TORCH_CHUNK)
        with self._threads(), torch.inference_mode():
            return torch.cat([self._forward(chunk).float() for chunk in chunks]).numpy()

    def _memory(self) -> PeakMemory:
        return self._since_compiling

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        """Run with the engine's threads, and give the rest of the process its own back."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _frozen(module: Any, sample: Any) -> Callable[[Any], Any]:
    """The network as torch's own inference graph: BatchNorm folded, weights laid out as its kernels want them."""
    import torch

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # it announces its end of life
        return torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(module, sample, check_trace=False)))


def _in_bf16(module: Any) -> Callable[[Any], Any]:
    import torch

    def forward(images: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return module(images.to(memory_format=torch.channels_last))

    return forward
