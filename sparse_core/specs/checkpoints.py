"""Specs of work on network files: inspect, import, export, analyse."""

import os
from dataclasses import dataclass

from sparse_core.catalog import INTERPOLATIONS, NORMALISATIONS
from sparse_core.errors import InputError
from sparse_core.specs.checks import require_known
from sparse_core.specs.options import option

_FILE = "a .pth, .pt or .safetensors file, or an .onnx file that 'export' wrote"
_ARCHITECTURE = "load as this architecture, if the file does not state one"
_WEIGHTS = "which weights, if the file holds several sets, such as state_dict_ema"


@dataclass(frozen=True)
class InspectSpec:
    """The inspection of a checkpoint file; ``architecture`` if the file does not state one, ``weights`` if it holds several."""

    path: str = option(help=_FILE, flag="path")
    architecture: str = option("", _ARCHITECTURE)
    weights: str = option("", _WEIGHTS, metavar="SET")


@dataclass(frozen=True)
class ImportSpec:
    """The import of a checkpoint file into the library as ``name``; empty fields are taken from the file.

    The last six options say how images are prepared for the network (its preprocessing): what is not given is as the file
    says, else guessed from architecture, method and upstream. ``mean`` and ``std`` have one value or one per channel.
    """

    path: str = option(help=_FILE, flag="path")
    name: str = option(help="the backbone's name in the library")
    architecture: str = option("", _ARCHITECTURE)
    method: str = option("", "pruning method, such as AC/DC")
    sparsity: float | None = option(None, "nominal, 0..1; measured where not given", type=float)
    upstream: str = option("", "what it was trained on; read from the file where not given")
    weights: str = option("", _WEIGHTS, metavar="SET")
    normalisation: str = option(
        "",
        "mean and std of the images it was trained on, by name; guessed where not given",
        choices=tuple(NORMALISATIONS),
    )
    mean: tuple[float, ...] = option(
        (), "or the mean of pixels scaled to 0..1, such as 0.5 or 0.49,0.48,0.45", metavar="M"
    )
    std: tuple[float, ...] = option((), "and their standard deviation, such as 0.5 or 0.25,0.24,0.26", metavar="S")
    resize: int | None = option(None, "pixels of the shorter side before the crop, 8 to 1024", type=int)
    crop: int | None = option(None, "pixels of each side of the network's input, at most those of --resize", type=int)
    interpolation: str = option("", "of resizing; RigL's checkpoints need bicubic", choices=INTERPOLATIONS)
    origin: str = ""

    def __post_init__(self) -> None:
        if self.normalisation:
            require_known("normalisation", self.normalisation, NORMALISATIONS)


@dataclass(frozen=True)
class StructureSpec:
    """The structure of one backbone, channel by channel."""

    backbone: str


EXPORT_FORMS = ("plain", "packed", "compact")


@dataclass(frozen=True)
class ExportSpec:
    """The finetuned network of the run ``run_id`` as ONNX; or a ``backbone``, by its name: in one ``form`` to the file ``path``,
    or in all forms to be downloaded where that is empty.

    The form plain is the public network's own; packed keeps the nonzero weights only, for storage; compact is without the
    filters that structured pruning removed. A ``path`` ends in .safetensors or .onnx, which is never packed.
    """

    run_id: str = ""
    backbone: str = ""
    path: str = ""
    form: str = "plain"

    def __post_init__(self) -> None:
        require_known("form", self.form, EXPORT_FORMS)
        if bool(self.run_id) == bool(self.backbone):
            raise InputError("Expected either a run or a backbone to export; got both or neither.")
        if self.path and not self.path.endswith((".safetensors", ".onnx")):
            raise InputError(f"Expected a file ending in .safetensors or .onnx, got '{os.path.basename(self.path)}'.")
        if self.path.endswith(".onnx") and self.form == "packed":
            raise InputError("An ONNX file cannot be packed: engines read all its weights. Name a .safetensors file.")
