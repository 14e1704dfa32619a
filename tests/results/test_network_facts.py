"""The statements that speeds, structures and upstream accuracies can check: by hand, and planted for and against each."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress, t

from sparse_core.cli import main
from sparse_core.results import evaluations, findings, network_facts
from sparse_core.results.findings import FAILS, HOLDS, OPEN
from sparse_core.results.network_facts import SPEEDS, NetworkFacts
from sparse_core.results.store import published_rows
from sparse_core.specs.speedup import SPEEDUP_MODES
from sparse_core.speed.network_facts import known as facts_of
from tests.support.evaluations import evaluation
from tests.support.records import measured, row


def speeds(*ratios, mode="inference", sparsity=0.9, architecture="resnet50", engine="deepsparse"):
    rows = [(mode, architecture, engine, sparsity, ratio, ratio - 0.1, ratio + 0.1) for ratio in ratios]
    return pd.DataFrame(rows, columns=SPEEDS)


def ends(values):
    """Student's t interval, written out."""
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return np.mean(values) - half, np.mean(values) + half


def networks(shares):
    """Rows of networks of several methods at 90 %, and their structures."""
    given = [(method, number, share) for method, values in shares.items() for number, share in enumerate(values)]
    rows = measured(*(row(method, 0.9, 0.8, network=f"{method}{number}") for method, number, _ in given))
    known = pd.DataFrame([(f"{method}{number}", share) for method, number, share in given])
    return rows, NetworkFacts(structures=known.set_axis(["network", "filters_pruned"], axis=1))


def structured(shift):
    """Networks whose accuracy on two tasks rises with that upstream, and structured ones that lie ``shift`` off that line."""
    upstream = {"GMP": 0.6, "STR": 0.7, "AC/DC": 0.8}
    rows = [row(name, 0.9, each, dataset=task, network=name) for name, each in upstream.items() for task in "ab"]
    values = {"s0": (0.65, shift - 0.01), "s1": (0.75, shift), "s2": (0.7, shift + 0.01), "beyond": (0.9, 9.0)}
    rows += [
        row("Structured", 0.9, each + off if off < 1 else 0.9, dataset=task, network=name)
        for name, (each, off) in values.items() for task in "ab"
    ]  # fmt: skip
    rows += [row("Magnitude", 0.9, 0.1, dataset=task, network="one-shot", recipe="0 epochs") for task in "ab"]
    known = upstream | {name: each for name, (each, _) in values.items()} | {"one-shot": 0.72}
    return measured(*rows), NetworkFacts(upstream=pd.DataFrame(known.items(), columns=["network", "upstream_accuracy"]))


def verdict(rows, known, name):
    return next(found for found in findings.check(rows, "measured", facts=known) if found.id == name)


def test_one_measurement_has_its_own_interval_and_several_are_averaged():
    known = NetworkFacts(speeds(3.5))
    assert network_facts.speedup(known, "inference", "resnet50", (0.9, 0.9)) == (
        network_facts.Interval(3.5, 3.4, 3.6, 1, "over the measurement's rounds"),
        1,
    )
    known = NetworkFacts(pd.concat([speeds(3.0, 4.0), speeds(9.0, engine="torch"), speeds(9.0, sparsity=0.8)]))
    interval, count = network_facts.speedup(known, "inference", "resnet50", (0.9, 0.9))
    assert count == 2 and (interval.low, interval.high) == pytest.approx(ends([3.0, 4.0]))
    assert interval.method == "t, over measurements"


@pytest.mark.parametrize(
    ("mode", "name", "holding", "failing"),
    [("inference", "inference-90-over-3", 3.5, 2.0), ("training", "online-training-2-to-4", 3.0, 1.5)],
)
def test_speeds_for_and_against(mode, name, holding, failing):
    assert mode in SPEEDUP_MODES
    none = measured(row("Dense", 0, 0.9)).iloc[:0]
    for ratio, expected in ((holding, HOLDS), (failing, FAILS)):
        found = verdict(none, NetworkFacts(speeds(ratio, mode=mode)), name)
        assert (found.verdict, found.rows, found.architecture) == (expected, 1, "ResNet50")
    assert verdict(none, NetworkFacts(speeds(9.0, mode=mode, architecture="resnet18")), name).verdict == OPEN


def test_pruned_filters_for_and_against():
    name, others = "acdc-most-pruned-filters", {"GMP": [0.1, 0.2], "STR": [0.05], "Structured": [0.9]}
    rows, known = networks({"AC/DC": [0.25, 0.29], **others})
    found = verdict(rows, known, name)
    assert (
        found.value == pytest.approx(0.27 - 0.15) and found.rows == 5
    )  # over GMP, which has most; Structured is left out
    low, high = ends([0.10, 0.14])
    assert (found.low, found.high) == pytest.approx((low, high))
    more = [0.25, 0.26, 0.27, 0.28]
    assert verdict(*networks({"AC/DC": more, **others}), name).verdict == HOLDS
    assert verdict(*networks({"AC/DC": [0.01, 0.02, 0.01, 0.02], **others}), name).verdict == FAILS


@pytest.mark.parametrize(("shift", "expected"), [(-0.2, HOLDS), (0.1, FAILS)])
def test_structured_networks_at_equal_upstream_accuracy(shift, expected):
    found = verdict(*structured(shift), "structured-below-unstructured")
    assert found.value == pytest.approx(shift) and found.n == 3  # the one beyond the others does not count
    assert (found.low, found.high) == pytest.approx(ends([shift - 0.01, shift, shift + 0.01]))
    assert found.verdict == expected


def test_nothing_known_is_no_error(capsys):
    rows, _ = networks({"AC/DC": [0.2]})
    assert network_facts.more_pruned_filters(NetworkFacts(), rows, "AC/DC", (0.9,))[1] == 0
    assert network_facts.structured_at_equal_upstream(NetworkFacts(), rows, "best")[1] == 0
    assert network_facts.speedup(NetworkFacts(), "training", "resnet50", (0.8, 0.95))[1] == 0
    assert main(["findings", "--source", "measured", "--json"]) == 0


def evaluated(lead, sparsities=(0.8, 0.9, 0.95), architecture="resnet50"):
    """Evaluations on both label sets, in which the paper's first methods lead the best other one by about ``lead``."""
    first = {0.8: "WoodFisher", 0.9: "WoodFisher", 0.95: "RigL ERK 5x"}
    rows = [
        (architecture, method, sparsity, dataset, 0.7 + (lead + 0.01 * number if method == first[sparsity] else shift))
        for number, sparsity in enumerate(sparsities)
        for dataset in ("imagenet-real", "imagenetv2")
        for method, shift in ((first[sparsity], 0), ("STR", 0.0), ("GMP", -0.1), ("Dense", 0.5))
    ]
    return NetworkFacts(evaluations=pd.DataFrame(rows, columns=network_facts.EVALUATED))


@pytest.mark.parametrize(("lead", "expected"), [(0.05, HOLDS), (-0.05, FAILS), (-0.01, OPEN)])
def test_the_first_method_upstream_for_and_against(lead, expected):
    none = measured(row("Dense", 0, 0.9)).iloc[:0]
    found = verdict(none, evaluated(lead), "upstream-woodfisher-first")
    leads = [lead, lead, lead + 0.01, lead + 0.01, lead + 0.02, lead + 0.02]
    assert found.value == pytest.approx(np.mean(leads)) and (found.low, found.high) == pytest.approx(ends(leads))
    assert (found.verdict, found.n, found.rows) == (expected, 6, 18)  # dense networks are no method
    other = verdict(none, evaluated(lead, architecture="resnet18"), "upstream-woodfisher-first")
    assert (other.verdict, other.rows) == (OPEN, 0) and "Evaluate" in other.note


def test_evaluations_of_this_machine_fill_it(home):
    for method, top1 in (("WoodFisher", 0.8), ("STR", 0.7)):
        for dataset in ("imagenet-real", "imagenetv2"):
            made = evaluation(method.lower(), dataset, top1)
            evaluations.write(home, made | {"architecture": "resnet50", "method": method, "sparsity": 0.9})
    known = facts_of(home, "measured")
    found = verdict(measured(row("Dense", 0, 0.9)).iloc[:0], known, "upstream-woodfisher-first")
    assert found.value == pytest.approx(0.1) and found.rows == 4


def detectors(slope, noise=0.002):
    """Runs of detectors whose mAP on boxes follows that upstream, and what is known of that."""
    random = np.random.default_rng(0)
    upstream = {
        f"{size}{number}": base - 0.01 * number for size, base in (("s", 0.55), ("l", 0.65)) for number in range(4)
    }
    rows = [
        row("GMP" if name[1] != "0" else "Dense", 0.2 * int(name[1]), 0.5 + slope * (each - 0.6), network=name,
            architecture="yolov5s", transfer="full", metric="mAP@0.5", dataset="boxes")
        for name, each in upstream.items()
    ]  # fmt: skip
    for each in rows:
        each["accuracy_best"] += random.normal(0, noise)
    return measured(*rows), NetworkFacts(
        upstream=pd.DataFrame(upstream.items(), columns=["network", "upstream_accuracy"])
    )


@pytest.mark.parametrize(("slope", "expected"), [(0.8, HOLDS), (-0.8, FAILS), (0.0, OPEN)])
def test_mean_average_precisions_together_and_apart(slope, expected):
    rows, known = detectors(slope)
    found = verdict(rows, known, "detection-map-together")
    x = known.upstream.set_index("network")["upstream_accuracy"].reindex(rows["network"]).to_numpy()
    line = linregress(x, rows["accuracy_best"])
    half = t.ppf(0.975, len(x) - 2) * line.stderr
    assert (found.value, found.low, found.high) == pytest.approx((line.slope, line.slope - half, line.slope + half))
    assert (found.verdict, found.n, found.rows) == (expected, 8, 8)


def test_published_detectors_are_compared_within_their_architecture():
    known = facts_of(None, "published")
    found = next(
        each for each in findings.check(published_rows(), "published", facts=known) if each.metric == "mAP@0.5"
    )
    maps = known.detectors
    design = np.column_stack(
        [maps["upstream_map"], *(maps["architecture"] == name for name in maps["architecture"].unique())]
    )
    (slope, *_), (residual,), *_ = np.linalg.lstsq(design.astype(float), maps["transfer_map"], rcond=None)
    variance = residual / (len(maps) - 4) * np.linalg.inv(design.T.astype(float) @ design.astype(float))[0, 0]
    half = t.ppf(0.975, len(maps) - 4) * np.sqrt(variance)
    assert (found.value, found.low, found.high) == pytest.approx((slope, slope - half, slope + half))
    assert (found.n, found.rows, found.verdict) == (9, 18, HOLDS) and "SparseML" in found.note
    opposite = NetworkFacts(detectors=maps.assign(transfer_map=1 - maps["transfer_map"]))
    again = next(
        each for each in findings.check(published_rows(), "published", facts=opposite) if each.metric == "mAP@0.5"
    )
    assert again.verdict == FAILS


def test_detectors_say_nothing_of_accuracies():
    """They are neither in the place of the paper's networks nor among them."""
    rows, known = detectors(0.8)
    found = {each.id: each for each in findings.check(rows, "measured", facts=known)}
    assert {name for name, each in found.items() if each.rows} == {"detection-map-together"}
