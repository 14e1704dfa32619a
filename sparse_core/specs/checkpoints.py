"""Specs of work on network files: look inside, import, export, analyse."""

from dataclasses import dataclass

from sparse_core.specs.options import option

_FILE = "a .pth, .pt or .safetensors file"
_ARCHITECTURE = "load as this architecture, where the file does not tell"


@dataclass(frozen=True)
class InspectSpec:
    """A look into a checkpoint file; ``architecture`` where the file does not tell it."""

    path: str = option(help=_FILE, positional=True)
    architecture: str = option("", _ARCHITECTURE)


@dataclass(frozen=True)
class ImportSpec:
    """A checkpoint file to keep in the library under ``name``; what is empty is taken from the file."""

    path: str = option(help=_FILE, positional=True)
    name: str = option(help="the backbone's name in the library")
    architecture: str = option("", _ARCHITECTURE)
    method: str = option("", "pruning method, such as AC/DC")
    sparsity: float | None = option(None, "nominal, 0..1; measured where not given", kind=float)
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
