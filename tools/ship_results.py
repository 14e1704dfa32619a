"""Add the runs of a home folder to ``data/measured``: the results that come with the product.

    python -m tools.ship_results HOME

Only runs of networks that this product made, the zoo's among them, count, and each gets the network's training from its card;
and only those in fp32, since those in bf16 would be a series of their own.
Runs that are shipped already stay. Folders of datasets are reduced to their names, and predictions on images that a user would
have to get first are left out. The home's measurements of speed with random weights are added, too, and the structures of zoo
networks that have none.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from sparse_core.datasets import catalogue
from sparse_core.networks import backbones, library, masks, structure, structure_analysis
from sparse_core.paths import SHIPPED
from sparse_core.results.records import Record, Records
from sparse_core.results.store import write_shipped
from sparse_core.speed import measurements


def main(home: Path) -> None:
    records = Records(home)
    recipes = {
        card.hash: card.provenance.recipe for card in (*library.zoo_cards(), *library.cards(home)) if card.provenance
    }
    shipped = Records(SHIPPED)
    known = shipped.ids()
    found = [
        _shippable(record, recipes)
        for record in records.read_many(records.ids() - known)
        if record.spec["backbone_hash"] in recipes and record.spec["precision"] == "fp32"
    ]
    SHIPPED.mkdir(parents=True, exist_ok=True)
    every = map(_lean, (*shipped.read_many(known), *found))
    write_shipped(sorted(every, key=lambda record: record.run_id), SHIPPED)
    timed = [record for record in measurements.read_all(home) if record["timing_only"]]
    for measurement in timed:
        measurements.write(SHIPPED, _without_folders(measurement))
    for card in library.zoo_cards():
        if not structure.mask_file(SHIPPED, card.hash).is_file():
            _write_structure(home, card.name, card.hash)
    size = sum(file.stat().st_size for file in SHIPPED.rglob("*.*"))
    print(f"{len(found):,} new runs and {len(timed)} measurements of speed, {size / 1e6:.1f} MB in {SHIPPED}")


def _shippable(record: Record, recipes: dict[str, str]) -> Record:
    spec = {**record.spec, "dataset": Path(record.spec["dataset"]).name}
    return dataclasses.replace(record, spec=spec, result={**record.result, "recipe": recipes[spec["backbone_hash"]]})


def _lean(record: Record) -> Record:
    """Without predictions where the images do not come with the product."""
    if record.spec["dataset"] == catalogue.DIGITS:
        return record
    result = {name: value for name, value in record.result.items() if name != "predicted"}
    return dataclasses.replace(record, result=result)


def _write_structure(home: Path, name: str, network: str) -> None:
    backbone = backbones.load_cached(home, name)
    assert backbone.hash == network
    found = structure_analysis.analyse(backbone.module, backbone.transform.crop)
    masks.save(backbone.mask, structure.mask_file(SHIPPED, network))
    structure.store(SHIPPED, dataclasses.replace(found, hash=network))


def _without_folders(measurement: dict[str, Any]) -> dict[str, Any]:
    """The measurement with the name of its dataset in place of the path."""
    spec = measurement["spec"]
    lines = [{**line, "dataset": Path(line.get("dataset", "")).name} for line in measurement["lines"]]
    return {**measurement, "spec": {**spec, "dataset": Path(spec["dataset"]).name}, "lines": lines}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
