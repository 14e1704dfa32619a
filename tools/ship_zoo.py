"""Write the backbones that this product made in a home folder as ``data/zoo`` has them: packed, one file each, with a table.

    python -m tools.ship_zoo HOME [PATTERN]

PATTERN (``*`` by default) chooses by name.
"""

import fnmatch
import sys
from pathlib import Path

from sparse_core.networks import backbones, exporting, library
from sparse_core.networks.library import BackboneCard
from sparse_core.paths import ZOO

INTRODUCTION = """# The zoo

ResNet20 (CIFAR form, 32 px) trained on CIFAR-10 by every method of the study and by two of ours, 12 epochs each on a cosine
schedule, with SGD at batch 128 in bf16; methods that start from dense weights train 12 epochs after their parent's 12. RigL ERK
5x trains 60 epochs and the AC/DC network named 3x trains 36. No option was tuned on test data. `zoo.yaml` makes all of them
again.

- The upstream images were a JPEG copy of CIFAR-10, decoded with loss: accuracies are below those on the original images.
- They were trained on one NVIDIA H200, 8 to 16 networks side by side: seconds tell how long each took there, not how long it
  would take alone.
- Each file is packed: a bit per weight, and the nonzero weights as float32. It carries its mask, its classifier for CIFAR-10 and
  its provenance, training curves included.

"""
HEADING = ("Network", "Method", "Sparsity", "Upstream accuracy", "Epochs", "Seconds", "With parents", "Seed", "Parent")


def main(home: Path, pattern: str = "*") -> None:
    ZOO.mkdir(parents=True, exist_ok=True)
    cards = [card for card in library.cards(home) if card.provenance and fnmatch.fnmatch(card.name, pattern)]
    for card in cards:
        exporting.write(backbones.load(home, card.name), ZOO / f"{card.name}.safetensors", "packed")
    names = {card.hash: card.name for card in cards}
    rows = [_row(card, names) for card in sorted(cards, key=lambda card: (card.method, card.sparsity, card.name))]
    lines = ["| " + " | ".join(row) + " |" for row in (HEADING, ["---"] * len(HEADING), *rows)]
    (ZOO / "README.md").write_text(INTRODUCTION + "\n".join(lines) + "\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in ZOO.glob("*.safetensors"))
    print(f"{len(cards)} networks, {size / 1e6:.1f} MB in {ZOO}")


def _row(card: BackboneCard, names: dict[str, str]) -> list[str]:
    made = card.provenance
    assert made is not None
    parents = ", ".join(names.get(parent, parent[:8]) for parent in made.parents) or "new weights"
    times = [f"{seconds:.0f}" for seconds in (made.seconds, made.seconds_with_parents)]
    accuracy = f"{100 * made.upstream_accuracy:.1f} %"
    return [
        card.name,
        card.method,
        f"{100 * card.sparsity:g} %",
        accuracy,
        str(made.epochs),
        *times,
        str(made.seed),
        parents,
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
