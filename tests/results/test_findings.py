"""The paper's statements: their figures, the rule, and rows planted for and against each of them."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from sparse_core.catalog import TASKS
from sparse_core.cli import main
from sparse_core.results import findings, measures
from sparse_core.results.comparison import Interval
from sparse_core.results.difficulty import rho_interval
from sparse_core.results.findings import FAILS, HOLDS, OPEN, STATEMENTS
from sparse_core.results.store import published_rows

TWO_SIDED = {each.id for each in STATEMENTS if np.isfinite(each.low) and np.isfinite(each.high)}
WITHIN = {each.id for each in STATEMENTS if each.id.endswith("within-3")}
RHO = {each.id for each in STATEMENTS if each.id.startswith("linear-difficulty")}
DENSE = {"specialised-tasks-harder", "full-beats-linear"}
BESIDE = {"online-training-2-to-4", "inference-90-over-3", "acdc-most-pruned-filters", "structured-below-unstructured"}
BESIDE |= {"upstream-woodfisher-first", "detection-map-together"}  # see test_network_facts
ONE_SIDED = {each.id for each in STATEMENTS} - TWO_SIDED - WITHIN - RHO - DENSE - BESIDE


@pytest.fixture(scope="module")
def rows():
    return published_rows()


@pytest.fixture(scope="module")
def checked(rows):
    return {found.id: found for found in findings.check(rows, "published")}


def planted(rows, increase):
    """The rows with the relative error increases that ``increase`` makes of theirs; ``level`` is a network's mean."""
    key = ["architecture", "transfer", "dataset"]
    errors = 1 - rows["accuracy_best"]
    dense = errors[rows["method"] == "Dense"].groupby([rows[name] for name in key]).mean().rename("dense")
    frame = rows.join(dense, on=key)
    frame["increase"] = (errors - frame["dense"]) / frame["dense"]
    frame["level"] = frame.groupby(["architecture", "transfer", "method", "sparsity"])["increase"].transform("mean")
    frame["noise"] = np.random.default_rng(0).normal(0, 0.01, len(frame))
    frame["difficulty"] = frame["dataset"].map(findings.Evidence(rows, "resnet50").difficulty)
    made = 1 - frame["dense"] * (1 + increase(frame))
    return rows.assign(accuracy_best=made.where(rows["method"] != "Dense", rows["accuracy_best"]))


def verdicts(rows):
    return {found.id: found.verdict for found in findings.check(rows, "published")}


def assert_flips(held, opposed, ids):
    assert {name: held[name] for name in ids} == dict.fromkeys(ids, HOLDS)
    assert {name: opposed[name] for name in ids} == dict.fromkeys(ids, FAILS)


def test_opposite_rows_flip_what_is_said_of_errors(rows):
    steady = verdicts(planted(rows, lambda f: f["level"] + 0.02 * (f["increase"] - f["level"])))
    mirrored = verdicts(planted(rows, lambda f: -f["level"] - 0.02 * (f["increase"] - f["level"])))
    best = "full-acdc-best-on-three"
    assert_flips(steady, mirrored, ONE_SIDED - {best})
    lead = {
        sign: verdicts(planted(rows, lambda f, s=sign: s * (f["method"] == "AC/DC") + f["noise"]))
        for sign in (-0.2, 0.2)
    }
    assert_flips(lead[-0.2], lead[0.2], {best})


def test_rows_apart_flip_what_is_said_to_be_level(rows):
    level = verdicts(planted(rows, lambda f: f["noise"]))

    def apart(f):
        return (
            f["noise"]
            + 0.4 * f["method"].str.startswith("RigL")
            + 2 * (f["sparsity"] - 0.8)
            + (f["sparsity"] < 0.8) * 2
        )

    assert_flips(level, verdicts(planted(rows, apart)), (TWO_SIDED | WITHIN) - BESIDE)


def test_opposite_slopes_flip_what_is_said_of_difficulty(rows):
    def sloped(sign):
        return lambda f: sign * f["difficulty"] * np.where(f["method"] == "WoodFisher", 1, -1) + f["noise"]

    assert_flips(
        verdicts(planted(rows, sloped(1))), verdicts(planted(rows, sloped(-1))), RHO - {"linear-difficulty-falls"}
    )

    def falling(sign):
        return lambda f: sign * f["difficulty"] * np.where(f["sparsity"] == 0.8, 1, -1) + 5 * f["noise"]

    assert_flips(verdicts(planted(rows, falling(1))), verdicts(planted(rows, falling(-1))), {"linear-difficulty-falls"})


def test_opposite_dense_rows_flip_what_is_said_of_tasks(rows):
    def with_full(sign):
        special = rows["dataset"].map(lambda name: TASKS[name].kind == "specialised")
        linear = rows[rows["transfer"] == "linear"]
        key = ["architecture", "method", "sparsity", "dataset"]
        base = linear.groupby(key)["accuracy_best"].mean().rename("base")
        noise = np.random.default_rng(1).normal(0, 0.05, len(rows))
        made = rows.join(base, on=key)["base"] + sign * (0.03 + 0.3 * special) + noise
        return rows.assign(accuracy_best=made.where(rows["transfer"] == "full", rows["accuracy_best"]))

    assert_flips(verdicts(with_full(1)), verdicts(with_full(-1)), DENSE)


def test_the_figures_are_those_of_the_paper(checked):
    percent = {name: round(100 * found.value, 1) for name, found in checked.items()}
    assert percent["linear-acdc-80-ahead-dense"] == -3.2 and percent["linear-acdc-90-ahead-dense"] == -2.0
    assert [percent[f"full-woodfisher-{s}-behind-dense"] for s in (80, 90, 95)] == [0.7, 4.0, 13.4]
    assert [percent[f"full-acdc-{s}-behind-dense"] for s in (80, 90, 95)] == [7.7, 12.0, 21.3]
    assert round(206 / 240, 3) == round(checked["full-beats-linear"].value, 3)
    assert round(0.174 - 0.046, 3) == round(checked["specialised-tasks-harder"].value, 3)
    assert checked["linear-acdc-80-ahead-dense"].rows == 12 * 5 * 2


def test_verdicts_of_the_papers_rows(checked):
    assert checked["linear-acdc-90-ahead-dense"].verdict == OPEN
    assert checked["linear-acdc-before-woodfisher-80"].verdict == HOLDS
    assert checked["full-rigl-1x-level-with-acdc-80"].verdict == FAILS
    assert "disagree" in checked["full-rigl-1x-level-with-acdc-80"].note
    assert checked["full-acdc-best-on-three"].verdict == HOLDS


@pytest.mark.parametrize(
    ("ends", "expected"),
    [((0.1, 0.2), HOLDS), ((-0.1, 0.2), OPEN), ((-0.2, -0.1), FAILS), ((np.nan, np.nan), OPEN), ((0.1, 0.6), OPEN)],
)
def test_the_rule(ends, expected):
    assert findings.verdict(Interval(0.0, *ends, 3, "t"), 0.0, 0.5) == expected


def test_without_rows_nothing_can_be_told(rows):
    found = findings.check(rows, "measured")
    assert {(each.verdict, each.rows) for each in found} == {(OPEN, 0)}


def test_other_networks_stand_in_for_the_papers_and_never_mix_with_them(rows):
    own = rows.query("architecture == 'resnet50'").assign(source="measured", architecture="resnet20", network="n")
    both = pd.concat([rows, own.assign(accuracy_best=own["accuracy_best"] / 2)])
    found = {each.id: each for each in findings.check(both, "measured")}
    assert found["linear-acdc-80-ahead-dense"].architecture == "ResNet20"
    assert found["mobilenet_v1-full-str-75-behind-dense"].rows == 0
    assert {each.id: each.value for each in findings.check(both, "published")} == pytest.approx(
        {each.id: each.value for each in findings.check(rows, "published")}, nan_ok=True
    )


def test_ids_are_unique_and_texts_are_sentences():
    assert len({each.id for each in STATEMENTS}) == len(STATEMENTS)
    assert all(each.text.endswith(".") and "( %)" not in each.text for each in STATEMENTS)


def test_the_interval_of_rho_covers_it():
    random = np.random.default_rng(0)
    for n in (10, 12):
        covered = []
        for _ in range(1000):
            x = random.normal(size=n)
            y = 0.5 * x + np.sqrt(0.75) * random.normal(size=n)
            rho = np.corrcoef(x.argsort().argsort(), y.argsort().argsort())[0, 1]
            low, high = rho_interval(rho, n)
            covered.append(low <= 6 / np.pi * np.arcsin(0.25) <= high)
        assert 0.93 <= np.mean(covered) <= 0.97, n


def test_the_verb_gives_the_promised_fields(capsys):
    assert main(["findings", "--source", "published", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert len(printed) == len(STATEMENTS)
    assert {"id", "statement", "source", "verdict", "value", "low", "high", "rows"} <= set(printed[0])
    assert {row["verdict"] for row in printed} <= {HOLDS, FAILS, OPEN}
    assert main(["findings", "--source", "nobody"]) == 2


def test_a_finding_names_what_its_view_selects(checked):
    fields = {field.name for field in dataclasses.fields(findings.Finding)}
    assert {"transfers", "methods"} <= fields
    assert checked["full-woodfisher-before-acdc-80"].methods == ("WoodFisher", "AC/DC")
    assert measures.present(checked["full-woodfisher-before-acdc-80"].transfers, published_rows()) == ["full"]
