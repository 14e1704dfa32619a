"""Records of real measurements, the command, and everything that may go wrong. No test checks a time."""

import itertools
import json
import os
import signal
import sys

import numpy as np
import pytest
import torch

from sparse_core import cli
from sparse_core.engines import compiling, machine
from sparse_core.errors import Cancelled, InputError
from sparse_core.speed import measurements, speedup
from tests.support.engines import AVAILABLE, needs_deepsparse, patched_compile
from tests.support.refusals import refused
from tests.support.speed import ROUNDS, run, spec, workers

DENSE = "efficientnet_lite0"


def test_a_real_measurement_is_recorded_completely(home):
    events = []
    record = run(home, spec(engines=tuple(AVAILABLE), batch_sizes=(1, 2)), events.append)
    assert measurements.read_all(home) == [json.loads(json.dumps(record))]
    runs = [(line["engine"], line["batch_size"]) for line in record["lines"]]
    assert runs == list(itertools.product(AVAILABLE, (1, 2)))
    for line in record["lines"]:
        dense, sparse = line["samples"]["dense"], line["samples"]["sparse"]
        assert len(dense) == len(sparse) == ROUNDS
        assert line["milliseconds_per_image"] == pytest.approx(np.median(sparse))
        assert line["dense_milliseconds_per_image"] == pytest.approx(np.median(dense))
        assert line["ratio"] == pytest.approx(np.median(dense) / np.median(sparse))
        assert line["ratio_low"] <= line["ratio"] <= line["ratio_high"]
        assert line["quartiles"] == pytest.approx(np.percentile(sparse, [25, 75]))
        assert line["images_per_second"] == pytest.approx(1000 / np.median(sparse))
        assert line["threads"] == 1 and line["sparsity"] == 0.9 and line["gain"] in measurements.GAINS
        assert 0 <= line["difference"] <= compiling.TOLERANCE[line["precision"]]
        assert line["engine_version"] and line["seconds_to_compile"] > 0 and line["restarts"] == 0
        assert 0 <= line["peak_memory_bytes"] < 1e9 if sys.platform == "linux" else line["peak_memory_bytes"] is None
        assert line["busy_during"] is None or 0 <= line["busy_during"] <= 1
        if line["layers"]:
            assert sum(share for _, share in line["layers"]) == pytest.approx(1)
    assert record["problems"] == [] and record["mode"] == "inference"
    assert record["timing_only"] is True and record["backbone"] == record["method"] == ""
    assert record["measured_sparsity"] == pytest.approx(0.9, abs=0.01)  # the first convolution stays dense
    assert record["machine"]["processor"] and record["machine"]["versions"]["torch"] in torch.__version__
    assert record["spec"]["rounds"] == ROUNDS and record["product_version"]
    assert len(measurements.frame(home)) == len(record["lines"])
    total = len(record["lines"]) * ROUNDS
    assert {event.total for event in events} == {total}
    done = [event.done for event in events]
    assert done == sorted(done) and done[0] == 0 and done[-1] == total - 1


def test_a_backbone_is_measured_against_a_dense_network_of_its_architecture(home, sparse_backbone):
    record = run(home, spec(backbone=sparse_backbone))
    assert record["timing_only"] is False
    assert (record["backbone"], record["architecture"], record["method"]) == ("pruned", "resnet20", "Magnitude")
    assert (record["sparsity"], record["distribution"]) == (0.8, "")
    assert record["measured_sparsity"] == pytest.approx(0.8, abs=1e-3)
    assert record["backbone_hash"]


@pytest.mark.parametrize(
    ("before", "during", "sparse", "reliable"),
    [
        (0.0, 0.1, [1, 1, 1, 1], True),
        (0.0, None, [1, 1, 1, 1], True),
        (0.9, 0.0, [1, 1, 1, 1], False),
        (0.0, 0.9, [1, 1, 1, 1], False),
        (0.0, 0.0, [1, 2, 1, 2], False),
    ],
    ids=["quiet", "too short to measure", "load before", "load during", "wide spread"],
)
def test_a_busy_machine_and_a_wide_spread_are_unreliable(home, seconds, monkeypatch, before, during, sparse, reliable):
    seconds([3, 3, 3, 3], sparse)
    monkeypatch.setattr(speedup, "cpu_usage", lambda: before)
    monkeypatch.setattr(machine.BackgroundLoad, "share", lambda _: during)
    record = run(home, spec())
    assert record["lines"][0]["reliable"] is reliable
    assert (record["busy_before"], record["lines"][0]["busy_during"]) == (before, during)
    assert min(record["load_before"], record["load_after"]) >= 0


def test_a_missing_engine_is_a_problem_and_the_others_are_measured(home, no_deepsparse):
    record = run(home, spec(engines=("deepsparse", "onnxruntime"), batch_sizes=(1, 2)))
    assert record["problems"] == [no_deepsparse]
    assert [line["engine"] for line in record["lines"]] == ["onnxruntime"] * 2
    refused(run, home, spec(engines=("deepsparse",)), match=no_deepsparse)
    assert len(measurements.read_all(home)) == 1


def test_an_engine_that_cannot_run_the_network_is_a_problem(home, monkeypatch):
    def change(compile, name, *settings):
        if name == "onnxruntime":
            raise InputError("This network cannot be exported to ONNX.")
        return compile(name, *settings)

    patched_compile(monkeypatch, change)
    record = run(home, spec(engines=("onnxruntime", "torch")))
    assert record["problems"] == ["ONNX Runtime, batch 2: This network cannot be exported to ONNX."]
    assert [line["engine"] for line in record["lines"]] == ["torch"]
    assert "ONNX Runtime, batch 2: This network cannot be exported" in refused(run, home, spec())


def test_no_figure_is_kept_of_an_engine_whose_output_differs(home, monkeypatch):
    def change(compile, name, *settings):
        compiled = compile(name, *settings)
        if name == "onnxruntime":
            right = compiled._run_batch
            compiled._run_batch = lambda images: 1.1 * right(images)
        return compiled

    patched_compile(monkeypatch, change)
    record = run(home, spec(engines=("onnxruntime", "torch")))
    assert [line["engine"] for line in record["lines"]] == ["torch"]
    (problem,) = record["problems"]
    assert "The output of ONNX Runtime differs from PyTorch's in fp32 by 1.0e-01" in problem
    assert "above 1e-03, so no figure was kept" in problem
    assert "no figure was kept" in refused(run, home, spec())
    assert len(measurements.read_all(home)) == 1


@needs_deepsparse
def test_a_killed_worker_is_started_again_and_the_measurement_completes(home):
    killed = []

    def kill(event):
        if event.done == 1 and not killed:
            killed.extend(worker.pid for worker in workers())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    record = run(home, spec(engines=("deepsparse",)), kill)
    assert len(killed) == 2
    (line,) = record["lines"]
    assert len(line["samples"]["dense"]) == len(line["samples"]["sparse"]) == ROUNDS and line["restarts"] == 2
    problem = "DeepSparse, batch 2: its process died and was started again. The affected round was repeated."
    assert record["problems"] == [problem]
    assert workers() == []


@needs_deepsparse
def test_a_worker_killed_repeatedly_is_reported_and_the_other_engines_are_measured(home):
    def kill(_):
        for worker in workers():
            worker.kill()

    record = run(home, spec(engines=("deepsparse", "onnxruntime")), kill)
    (problem,) = record["problems"]
    assert problem.startswith("DeepSparse, batch 2: DeepSparse's process died twice (signal 9)")
    assert [line["engine"] for line in record["lines"]] == ["onnxruntime"]
    assert workers() == []


@pytest.mark.parametrize("engine", AVAILABLE)
def test_a_cancelled_measurement_closes_its_engines_and_leaves_no_record(home, engine):
    def cancel(event):
        if event.done == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(home, spec(engines=(engine,)), cancel)
    assert workers() == [] and measurements.read_all(home) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"engines": ("onnxruntim",)}, "Unknown engine 'onnxruntim'. Did you mean onnxruntime?"),
        ({"batch_sizes": (0,)}, "batch size must be at least 1; got 0"),
        ({"batch_sizes": ()}, "batch sizes must be one or more"),
        ({"rounds": 2}, "rounds must be at least 3; got 2"),
        ({"sparsity": 1.0}, "sparsity must be in (0, 1); got 1.0"),
        ({"threads": machine.cores() + 1}, f"got {machine.cores() + 1}."),
        ({"threads": -1}, "got -1."),
        ({"architecture": "resnet21"}, "Unknown architecture 'resnet21'. Did you mean resnet32 or resnet20"),
        ({"distribution": "even"}, "Unknown distribution 'even'"),
        ({"backbone": DENSE}, f"{DENSE} is dense, with 0.2% of its weights 0, so there is nothing to gain."),
        ({"backbone": "nothing"}, "Unknown backbone 'nothing'"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(home, fields, message):
    assert message in refused(lambda: run(home, spec(**fields)))
    assert measurements.read_all(home) == []


def test_the_command_prints_its_figures(home, capsys):
    command = "speedup --architecture resnet20 --sparsity 0.9 --engines onnxruntime --rounds 3 --threads 1"
    assert cli.main([*command.split(), "--batch-sizes", "1,2", "--json"]) == 0
    printed = capsys.readouterr()
    lines = json.loads(printed.out)
    (record,) = measurements.read_all(home)
    assert [line["batch_size"] for line in lines] == [1, 2]
    times = ("milliseconds_per_image", "dense_milliseconds_per_image", "ratio", "ratio_low", "ratio_high")
    for name in ("engine", "batch_size", "threads", "sparsity", *times):
        assert [line[name] for line in lines] == [line[name] for line in record["lines"]]
    assert "timing only" in printed.err and record["id"] in printed.err


def test_a_missing_engine_is_reported_if_none_is_named(home, no_deepsparse, capsys):
    command = "speedup --architecture resnet20 --sparsity 0.9 --batch-sizes 1 --rounds 3 --threads 1"
    assert cli.main([*command.split(), "--json"]) == 0
    assert no_deepsparse in capsys.readouterr().err
    (record,) = measurements.read_all(home)
    assert record["problems"] == [no_deepsparse]
    assert [line["engine"] for line in record["lines"]] == ["onnxruntime", "torch"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--architecture resnet20 --sparsity 0.9 --engines deepspars", "Unknown engine 'deepspars'"),
        ("--architecture resnet20 --sparsity 0.9 --batch-sizes 0", "batch size must be at least 1; got 0"),
        ("--architecture resnet20 --sparsity 0.9 --batch-sizes many", "whole numbers such as 1,64; got 'many'"),
        ("--architecture resnet20 --sparsity 0.9 --threads 999", "got 999."),
        ("--architecture resnet20", "sparsity must be in (0, 1)"),
        ("--sparsity 0.9", "either a backbone or an architecture"),
        ("--backbone efficientnet_lite0", "nothing to gain"),
        ("--architecture resnet20 --sparsity 0.9 --mode training", "Online training needs a dataset"),
        ("--architecture resnet20 --sparsity 0.9 --mode training --dataset nowhere", "Unknown dataset 'nowhere'"),
    ],
)
def test_the_command_refuses_in_one_line(capsys, command, message):
    assert cli.main(["speedup", *command.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("Error: ") and message in printed.err
    assert printed.err.count("\n") == 1
