"""Speed: labels and sentences, hand-computed joins with accuracy, the newest measurements, time estimates."""

import json

import pandas as pd
import pytest

from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.views import speed_tables
from sparse_core.views.charts import speed as speed_charts
from tests.support.measurements import backbone_record, line, speed_record, training_line
from tests.support.records import record, write


def backbone(measurement: str = "a", **fields) -> dict:
    return backbone_record(measurement, **{"backbone": "net", "spec": {"dataset": "digits"}, **fields})


def table(home, *records: dict) -> pd.DataFrame:
    return speed_tables.table(home, records, {"net": "My net"})


def runs(home) -> pd.DataFrame:
    """Two dense runs of 90 and 80 %, two sparse ones of 70 and 76 %."""
    write(home, record(best=0.9), record(seed=1, best=0.8))
    write(home, record(sparsity=0.5, best=0.7), record(sparsity=0.5, seed=1, best=0.76))
    return Store(Records(home)).results(source="measured")


def test_labels_of_networks_and_engines(home):
    rows = table(
        home,
        speed_record(lines=[line(), line(engine="torch", precision="bf16")]),
        speed_record("b", distribution="erk"),
        backbone("c"),
        backbone("d", backbone="gone"),
        speed_record("e", distribution="as in net"),
    )
    assert rows["network"].tolist() == [
        *["ResNet50 at 90 %, uniform mask (timing only)"] * 2,
        "ResNet50 at 90 %, Erdős–Rényi-Kernel mask (timing only)",
        "My net",
        "EfficientNet-Lite0 at 50 %, Magnitude",
        "ResNet50 at 90 %, mask as in My net (timing only)",
    ]
    assert rows["engine_words"].tolist()[:2] == ["DeepSparse", "PyTorch (bf16)"]
    assert set(rows["machine"]) == {"Some processor, 2 cores"}


@pytest.mark.parametrize(
    ("ratio", "reliable", "expected"),
    [
        (3.2, True, "3.20× faster (3.10–3.30) in DeepSparse at batch 64"),
        (12.0, True, "12.0× faster (11.9–12.1) in DeepSparse at batch 64"),
        (1.02, True, "inconclusive: 1.02× the dense speed (0.92–1.12) in DeepSparse at batch 64"),
        (0.5, False, "not faster: 0.50× the dense speed (0.40–0.60) in DeepSparse at batch 64 (unreliable)"),
    ],
)
def test_a_line_as_a_sentence(home, ratio, reliable, expected):
    (row,) = table(home, backbone(lines=[line(ratio=ratio, reliable=reliable)])).itertuples()
    assert speed_tables.sentence(row) == f"My net: {expected}"


def test_online_training_names_its_dataset(home):
    (row,) = table(home, backbone(mode="training", lines=[training_line()])).itertuples()
    assert speed_tables.setting(row) == "in online training on Digits in DeepSparse at batch 64"


def test_the_newest_of_each_setting_counts(home):
    later = {"created_at": "2026-02-01"}
    rows = table(
        home,
        speed_record("a", lines=[line(ratio=2.0), line(ratio=1.0, threads=1), line(ratio=1.5, batch_size=1)]),
        speed_record("b", **later, lines=[line(ratio=3.0)]),
        speed_record("c", **later, machine={"processor": "Another", "cores": 2}, lines=[line(ratio=9.0)]),
    )
    assert speed_tables.latest(rows)["ratio"].tolist() == [1.0, 1.5, 3.0, 9.0]


def test_speedup_by_sparsity_as_in_table_5(home):
    lines = [line(ratio=3.0), line(engine="torch", ratio=1.0, reliable=False)]
    rows = table(home, speed_record("a", sparsity=0.8, lines=[line(ratio=2.0)]), speed_record("b", lines=lines))
    network = {"architecture": "resnet50", "origin": "uniform mask (timing only)", "threads": 2}
    assert speed_tables.by_sparsity(rows).drop(columns="dataset").to_dict("records") == [
        {**network, "engine_words": "DeepSparse", "80 %": "2.00 (1.90–2.10)", "90 %": "3.00 (2.90–3.10)"},
        {**network, "engine_words": "PyTorch", "80 %": "", "90 %": "1.00 (0.90–1.10), inconclusive, unreliable"},
    ]


def test_training_speed_joins_linear_transfer_of_the_same_backbone_and_task(home):
    rows = table(home, backbone("a", mode="training", lines=[training_line()]))
    (compared,) = speed_tables.training_with_accuracy(rows, runs(home)).to_dict("records")
    assert compared["accuracy_mean"] == pytest.approx(0.73)
    assert compared["difference"] == pytest.approx(0.73 - 0.85)
    assert compared["accuracy_std"] == pytest.approx(0.06 / 2**0.5)
    (trace,) = speed_charts.training_against_accuracy(pd.DataFrame([compared])).data
    low, high = compared["difference_low"], compared["difference_high"]
    assert low < compared["difference"] < high
    assert list(trace.error_y.array) == pytest.approx([100 * (high - compared["difference"])])
    assert compared["interval"] in trace.hovertext[0]
    for wrong in ({"backbone_hash": "another"}, {"spec": {"dataset": "cifar10"}}):
        rows = table(home, backbone("a", mode="training", lines=[training_line()], **wrong))
        stored = Store(Records(home)).results(source="measured")
        assert speed_tables.training_with_accuracy(rows, stored)["difference"].isna().all()


def test_tables_with_accuracy_leave_out_timing_only(home):
    trained = backbone("a", mode="training", timing_only=True, lines=[training_line()])
    rows = table(home, trained, backbone("b", timing_only=True))
    assert speed_tables.training_with_accuracy(rows[:1], runs(home)).empty
    assert speed_tables.speed_and_accuracy(rows[1:], Store(Records(home)).results(source="measured")).empty


def test_speed_and_accuracy_takes_the_fastest_engine_and_the_dense_times(home):
    lines = [line(milliseconds=4.0, ratio=3.0), line(engine="torch", milliseconds=8.0, ratio=1.0)]
    rows = table(home, backbone(lines=lines))
    found = speed_tables.speed_and_accuracy(rows, runs(home)).set_index("method")
    # DeepSparse: 4 ms sparse, 12 ms dense; PyTorch: 8 and 8, so dense is fastest there.
    columns = ["engine_words", "milliseconds_per_image", "images_per_second", "accuracy_mean"]
    assert found.loc["Dense", columns].tolist() == ["PyTorch", 8.0, 125.0, pytest.approx(0.85)]
    assert found.loc["Magnitude", columns].tolist() == ["DeepSparse", 4.0, 250.0, pytest.approx(0.73)]
    assert found["front"].all()


def test_a_slower_and_less_accurate_backbone_is_not_pareto_optimal(home):
    rows = table(home, backbone(lines=[line(milliseconds=4.0, ratio=0.5)]))
    found = speed_tables.speed_and_accuracy(rows, runs(home)).set_index("method")
    assert found["front"].to_dict() == {"Dense": True, "Magnitude": False}


def test_quartiles_of_time_become_those_of_speed(home):
    rows = table(home, backbone(lines=[line(milliseconds=4.0, quartiles=[2.0, 5.0])]))
    found = speed_tables.speed_and_accuracy(rows, runs(home))
    drawn = speed_charts.accuracy_against_speed(found, "images_per_second").data
    (sparse,) = [trace for trace in drawn if trace.name == "Magnitude"]
    assert (sparse.x[0], sparse.error_x.array[0], sparse.error_x.arrayminus[0]) == (250.0, 250.0, 50.0)


def test_inconclusive_is_written_once_where_positions_are_close(home):
    records = [speed_record(str(level), sparsity=level, lines=[line(ratio=1.0)]) for level in (0.5, 0.9, 0.92)]
    drawn = speed_charts.speedup(table(home, *records), "sparsity")
    assert [note.x for note in drawn.layout.annotations if note.text == "inconclusive"] == [50.0, 90.0]


def test_engines_have_a_fixed_order_with_unknown_ones_last(home):
    names = ("another", "torch", "deepsparse")
    drawn = speed_charts.speedup(table(home, speed_record(lines=[line(engine=name) for name in names])), "sparsity")
    assert [trace.name.split(",")[0] for trace in drawn.data] == ["DeepSparse", "PyTorch", "another"]


def test_a_record_without_machine_or_versions_has_a_description(home):
    bare = speed_record(machine=None, load_before=None, load_after=None)
    del bare["lines"][0]["busy_during"]
    assert speed_tables.machine_description(bare) == "Unknown processor (unknown instruction sets); DeepSparse 1.8.0."
    assert table(home, bare)["machine"].tolist() == ["Unknown processor"]


def test_background_load_is_described_and_warned_of(home):
    given = speed_record(lines=[line(busy_during=0.4), line(engine="torch", busy_during=0.2), line(busy_during=None)])
    assert speed_tables.machine_description(given).endswith("Background CPU load up to 40 %.")
    (warning,) = speed_tables.reliability_warnings(table(home, given))
    assert warning == "Background CPU load was 40 % in DeepSparse at batch 64."


def test_the_parts_of_an_epoch_are_in_order_of_sparsity(home):
    records = [
        speed_record(str(n), sparsity=level, lines=[training_line()]) for n, level in enumerate((0.9, 0.8, 0.95))
    ]
    split = speed_tables.epoch_split(home, records, {})
    assert split["sparsity"].tolist() == [0.8, 0.8, 0.9, 0.9, 0.95, 0.95]
    assert split["which"].tolist() == ["dense", "sparse"] * 3


def test_layers_of_each_line():
    given = speed_record(lines=[line(layers=[["conv1", 0.25], ["fc", 0.75]]), line(engine="torch")])
    found = speed_tables.layer_shares(json.loads(json.dumps(given)))
    assert list(found) == ["DeepSparse, batch 64"]
    assert found["DeepSparse, batch 64"]["share"].tolist() == [0.25, 0.75]
