"""Write the runs of a home folder as ``data/measured`` has them: the results that come with the product.

    python -m tools.ship_results HOME

Only runs of networks that this product made in that home count, and each gets the network's training from its card. Folders of
datasets are reduced to their names.
"""

import dataclasses
import sys
from pathlib import Path

from sparse_core.networks import library
from sparse_core.paths import SHIPPED
from sparse_core.results.records import Record, Records
from sparse_core.results.store import write_shipped


def main(home: Path) -> None:
    records = Records(home)
    recipes = {card.hash: card.provenance.recipe for card in library.cards(home) if card.provenance}
    found = [
        _shippable(record, recipes)
        for record in records.read_many(records.ids())
        if record.spec["backbone_hash"] in recipes
    ]
    SHIPPED.mkdir(parents=True, exist_ok=True)
    write_shipped(sorted(found, key=lambda record: record.run_id), SHIPPED)
    size = sum(file.stat().st_size for file in SHIPPED.rglob("*.parquet"))
    print(f"{len(found):,} runs, {size / 1e6:.1f} MB in {SHIPPED}")


def _shippable(record: Record, recipes: dict[str, str]) -> Record:
    spec = {**record.spec, "dataset": Path(record.spec["dataset"]).name}
    return dataclasses.replace(record, spec=spec, result={**record.result, "recipe": recipes[spec["backbone_hash"]]})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
