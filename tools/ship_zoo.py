"""Write the backbones that this product made in a home folder as ``data/zoo`` has them: packed, one file each, and their table.

    python -m tools.ship_zoo HOME [PATTERN]

PATTERN (``*`` by default) chooses by name.
"""

import fnmatch
import sys
from pathlib import Path

from sparse_core.networks import backbones, exporting, library
from sparse_core.networks.library import BackboneCard
from sparse_core.paths import ZOO

HEADING = ("Network", "Method", "Sparsity", "Upstream accuracy", "Epochs", "Seconds", "With parents", "Seed", "Parent")


def main(home: Path, pattern: str = "*") -> None:
    ZOO.mkdir(parents=True, exist_ok=True)
    cards = [card for card in library.cards(home) if card.provenance and fnmatch.fnmatch(card.name, pattern)]
    for card in cards:
        exporting.write(backbones.load(home, card.name), ZOO / f"{card.name}.safetensors", "packed")
    names = {card.hash: card.name for card in cards}
    rows = [_row(card, names) for card in sorted(cards, key=lambda card: (card.method, card.sparsity, card.name))]
    lines = ["| " + " | ".join(row) + " |" for row in (HEADING, ["---"] * len(HEADING), *rows)]
    (ZOO / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in ZOO.glob("*.safetensors"))
    print(f"{len(cards)} networks, {size / 1e6:.1f} MB in {ZOO}")


def _row(card: BackboneCard, names: dict[str, str]) -> list[str]:
    made = card.provenance
    assert made is not None
    parents = ", ".join(names.get(parent, parent[:8]) for parent in made.parents) or "new weights"
    times = [f"{seconds:.0f}" for seconds in (made.seconds, made.seconds_with_parents)]
    accuracy = f"{100 * made.upstream_accuracy:.1f} %"
    return [card.name, card.method, f"{100 * card.sparsity:g} %", accuracy, str(made.epochs), *times, str(made.seed), parents]


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
