"""Links of version 0.1.0 still open the view that they were copied from.

Each address in ``data/links-0.1.0.json`` was written by that version; the values are those that today's controls take from it.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from sparse_core.speed import measurements
from tests.pages.support import open_app
from tests.support.measurements import backbone_record, line, speed_record, training_record
from tests.support.records import record, write, write_probes

LINKS = json.loads((Path(__file__).parents[1] / "data" / "links-0.1.0.json").read_text(encoding="utf-8"))


@pytest.fixture
def used_home(home: Path) -> Path:
    """A home with two dense runs and one sparse one, and with measurements of speed."""
    write_probes(home)
    measurements.write(home, speed_record("a", lines=[line(ratio=1.0), line(engine="torch", ratio=0.9)]))
    batches = [line(), line(batch_size=1, layers=[["conv1", 0.25], ["fc", 0.75]])]
    measurements.write(home, speed_record("b", created_at="2026-01-03", sparsity=0.8, lines=batches))
    measurements.write(home, backbone_record("c", created_at="2026-01-04"))
    measurements.write(home, training_record("d", created_at="2026-01-05"))
    return home


@pytest.mark.parametrize(("address", "expected"), LINKS.items())
def test_a_link_of_version_0_1_0_opens_its_view(used_home: Path, address: str, expected: dict[str, Any]) -> None:
    page, _, query = address.partition("?")
    app = open_app(page, **parse_qs(query))
    assert [toast.value for toast in app.toast] == []
    assert json.loads(json.dumps({key: app.session_state[key] for key in expected})) == expected


def test_a_link_from_before_networks_had_names_chooses_all_that_it_joined(home: Path) -> None:
    first = record(sparsity=0.5)
    second = replace(first, run_id="other", spec={**first.spec, "backbone_hash": "second", "backbone": "mine"})
    write(home, first, second, record())
    app = open_app(architecture="EfficientNet-Lite0", points="Linear: Magnitude 50 %, your runs 2fab")
    assert [toast.value for toast in app.toast] == []
    joined = [f"Linear: Magnitude 50 %, your runs 2fab, {network}" for network in ("mine (second)", "net (net0.5)")]
    assert sorted(app.session_state["points"]) == joined
