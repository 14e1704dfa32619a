"""Specs of work on network files: inspect, import, export, analyse."""

from dataclasses import dataclass

from sparse_core.specs.options import option

_FILE = "a .pth, .pt or .safetensors file"
_ARCHITECTURE = "load as this architecture, if the file does not state one"


@dataclass(frozen=True)
class InspectSpec:
    """The inspection of a checkpoint file; ``architecture`` if the file does not state one."""

    path: str = option(help=_FILE, flag="path")
    architecture: str = option("", _ARCHITECTURE)


@dataclass(frozen=True)
class ImportSpec:
    """The import of a checkpoint file into the library as ``name``; empty fields are taken from the file."""

    path: str = option(help=_FILE, flag="path")
    name: str = option(help="the backbone's name in the library")
    architecture: str = option("", _ARCHITECTURE)
    method: str = option("", "pruning method, such as AC/DC")
    sparsity: float | None = option(None, "nominal, 0..1; measured where not given", type=float)
    upstream: str = option("", "what it was trained on; read from the file where not given")
    origin: str = ""


@dataclass(frozen=True)
class StructureSpec:
    """The structure of one backbone, channel by channel."""

    backbone: str


@dataclass(frozen=True)
class ExportSpec:
    """The finetuned network of one run, as ONNX."""

    run_id: str
