"""Backbones ranked before they are trained: the verb, its order, and its agreement with probes."""

import json

import numpy as np
import pytest

from sparse_core.cli import main
from sparse_core.decision_verbs import RANKINGS
from sparse_core.networks import importing
from sparse_core.transfer import ranked, ranking
from tests.support.networks import pruned_file


@pytest.fixture
def networks(home, tmp_path):
    """Three networks in the library."""
    names = ["one", "two", "three"]
    for seed, name in enumerate(names):
        importing.add(home, pruned_file(tmp_path / f"{name}.pth", 0.5, seed), name)
    return names


def test_the_verb_prints_the_promised_fields_best_first(networks, images, capsys):
    assert main(["rank", "--dataset", images, "--backbones", ",".join(networks), "--measure", "knn", "--json"]) == 0
    printed = capsys.readouterr()
    rows = json.loads(printed.out)
    assert {row["backbone"] for row in rows} == set(networks)
    assert all({"backbone", "measure", "score", "seconds"} <= set(row) for row in rows)
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert "Linear probes of 0 of these backbones" in printed.err


def test_the_agreement_is_with_the_probes_of_this_dataset(home, networks, images, capsys):
    for name in networks:
        assert main(["probe", "--backbone", name, "--dataset", images, "--seeds", "1", "--epochs", "1"]) == 0
    capsys.readouterr()
    found = ranked.rank(home, networks, images, "logme", lambda _: None)
    assert found.probes == 3 and (np.isnan(found.tau) or -1 <= found.tau <= 1)


def test_unknown_names_are_refused(networks, images, capsys):
    assert main(["rank", "--dataset", images, "--backbones", "nobody"]) == 2
    assert main(["rank", "--dataset", "nothing", "--backbones", "one"]) == 2
    assert main(["rank", "--dataset", images, "--measure", "odd"]) == 2
    assert "invalid choice" in capsys.readouterr().err


def test_the_measures_of_the_verb_are_those_there_are():
    assert set(RANKINGS) == set(ranking.MEASURES)
