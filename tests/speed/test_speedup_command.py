"""The command ``speedup``: its JSON, and refusals in one line."""

import json

import pytest

from sparse_core import cli
from sparse_core.speed import measurements


def test_the_command_prints_its_figures(home, capsys):
    command = (
        "speedup --architecture resnet20 --sparsity 0.9 --engines onnxruntime --batch-sizes 1,2 --rounds 3 --threads 1"
    )
    assert cli.main([*command.split(), "--json"]) == 0
    printed = capsys.readouterr()
    lines = json.loads(printed.out)
    (record,) = measurements.read_all(home)
    assert [line["batch_size"] for line in lines] == [1, 2]
    for name in (
        *("engine", "batch_size", "threads", "sparsity", "milliseconds_per_image", "dense_milliseconds_per_image"),
        *("ratio", "ratio_low", "ratio_high"),
    ):
        assert [line[name] for line in lines] == [line[name] for line in record["lines"]]
    assert "for timing only" in printed.err and record["id"] in printed.err


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
