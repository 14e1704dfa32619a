"""The arithmetic of ratios by hand, records of real measurements, and everything that may go wrong. No test looks at a time."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch

from sparse_core import cli
from sparse_core.catalog import ENGINES
from sparse_core.engines import availability, compiling, deepsparse_client, exactness, machine
from sparse_core.engines.compiled import Compiled
from sparse_core.errors import Cancelled, InputError
from sparse_core.jobs import kinds
from sparse_core.jobs.kinds import Job
from sparse_core.networks import architectures, importing, masks
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed import measurements, speedup, timing

HERE = [name for name in ENGINES if availability.missing(name) is None]
needs_deepsparse = pytest.mark.skipif(deepsparse_client.missing() is not None, reason=str(deepsparse_client.missing()))
ROUNDS = 4


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("sparse_core.engines.compiled.MEASURE_SECONDS", 0.0)
    monkeypatch.setattr(speedup, "ROUND_SECONDS", 0.0)


def spec(**fields) -> SpeedupSpec:
    settings = {"engines": ("onnxruntime",), "batch_sizes": (2,), "threads": 1, "rounds": ROUNDS}
    named = {} if "backbone" in fields else {"architecture": "resnet20", "sparsity": 0.9}
    return SpeedupSpec(**{**named, **settings, **fields})


def run(home, asked, report=lambda _: None):
    return kinds.run(home, Job("speedup", asked), report)


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "deepsparse_worker" in " ".join(child.cmdline())]


@pytest.fixture
def sparse_backbone(home, tmp_path):
    """A pruned network in the library."""
    torch.manual_seed(0)
    module = architectures.build("resnet20")
    masks.apply(module, masks.top_k(module, 0.8))
    state = {**module.state_dict(), "linear.weight": torch.randn(10, 64), "linear.bias": torch.zeros(10)}
    torch.save(state, tmp_path / "net.pth")
    return importing.add(home, tmp_path / "net.pth", "pruned", method="Magnitude").name


@pytest.fixture
def seconds(monkeypatch):
    """Makes each round take seconds given by hand, for dense and for sparse; tells who ran in which order."""
    turns = []

    def set_(dense, sparse):
        given = {"dense": iter(dense), "sparse": iter(sparse)}

        def measured(compiled, images, repeats):
            turns.append(compiled.of)
            return next(given[compiled.of]) * len(images)

        monkeypatch.setattr(speedup, "_seconds", measured)
        monkeypatch.setattr(speedup, "_repeats", lambda *_: 1)
        known = compiling.compile

        def compile(name, module, *settings):
            compiled = known(name, module, *settings)
            compiled.of = "sparse" if masks.sparsity(module).total else "dense"
            return compiled

        monkeypatch.setattr(compiling, "compile", compile)
        return turns

    return set_


@pytest.fixture
def no_deepsparse(monkeypatch):
    """The reason why DeepSparse is missing."""
    reason = "DeepSparse is not set up. 'make deepsparse' does it."
    known = availability.missing
    monkeypatch.setattr(availability, "missing", lambda name: reason if name == "deepsparse" else known(name))
    return reason


def test_a_ratio_is_that_of_the_medians():
    found = timing.ratio_of([10, 12, 11, 13, 30], [5, 4, 5, 5, 6])
    assert found.ratio == pytest.approx(12 / 5)
    assert found.spread == pytest.approx((13 - 11) / 12)  # the sparse quartiles are both 5
    assert found.low <= found.ratio <= found.high


def test_the_interval_is_the_bootstraps_over_whole_rounds():
    generator = np.random.default_rng(5)
    busy = generator.lognormal(0, 0.3, 25)  # meets both networks of a round
    dense, sparse = 3 * busy * generator.lognormal(0, 0.1, 25), busy * generator.lognormal(0, 0.1, 25)
    rows = generator.integers(25, size=(20_000, 25))
    ratios = np.median(dense[rows], 1) / np.median(sparse[rows], 1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    found = timing.ratio_of(dense, sparse)
    assert found.low == pytest.approx(low, rel=0.03)
    assert found.high == pytest.approx(high, rel=0.03)
    assert found == timing.ratio_of(dense, sparse)


def test_what_meets_both_networks_of_a_round_leaves_the_ratio_alone():
    dense = [1.0, 5.0, 2.0, 9.0, 3.0]
    found = timing.ratio_of(dense, [value / 4 for value in dense])
    assert (found.ratio, found.low, found.high) == (4, 4, 4)


def test_times_that_do_not_vary_leave_no_doubt():
    assert timing.ratio_of([6, 6, 6], [2, 2, 2]) == timing.Ratio(3, 3, 3, 0)


@pytest.mark.parametrize(
    ("dense", "sparse", "gain"),
    [
        ([3, 3.1, 2.9, 3], [1, 1.1, 0.9, 1], "faster"),
        ([1, 1.1, 0.9, 1], [3, 3.1, 2.9, 3], "slower"),
        ([1, 3, 1, 3, 1, 3], [3, 1, 3, 1, 3, 1], "no gain"),
        ([1, 1, 1], [1, 1, 1], "no gain"),
    ],
)
def test_a_gain_is_one_only_where_the_interval_excludes_1(dense, sparse, gain):
    assert timing.ratio_of(dense, sparse).gain == gain


@pytest.mark.parametrize(
    ("dense", "sparse"),
    [([1, 1], [1, 1]), ([], []), ([1, 1, 0], [1, 1, 1]), ([1, 1, 1], [1, -1, 1]), ([1, 1, float("nan")], [1, 1, 1])],
)
def test_too_few_rounds_and_times_that_are_none_are_refused(dense, sparse):
    with pytest.raises(InputError, match="three rounds or more of times above 0"):
        timing.ratio_of(dense, sparse)


def test_a_real_measurement_is_kept_whole(home):
    said = []
    record = run(home, spec(engines=tuple(HERE), batch_sizes=(1, 2)), said.append)
    assert measurements.read_all(home) == [json.loads(json.dumps(record))]
    assert [(line["engine"], line["batch_size"]) for line in record["lines"]] == [(e, b) for e in HERE for b in (1, 2)]
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
        assert 0 <= line["difference"] <= exactness.TOLERANCE[line["precision"]]
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
    assert {event["total"] for event in said} == {total}
    done = [event["done"] for event in said]
    assert done == sorted(done) and done[0] == 0 and done[-1] == total - 1


def test_a_backbone_is_measured_against_a_dense_network_of_its_architecture(home, sparse_backbone):
    record = run(home, spec(backbone=sparse_backbone))
    assert record["timing_only"] is False
    assert (record["backbone"], record["architecture"], record["method"]) == ("pruned", "resnet20", "Magnitude")
    assert (record["sparsity"], record["distribution"]) == (0.8, "")
    assert record["measured_sparsity"] == pytest.approx(0.8, abs=1e-3)
    assert record["backbone_hash"]


@pytest.mark.parametrize("distribution", ["uniform", "erk"])
def test_a_mask_for_timing_prunes_all_but_the_first_convolution(home, distribution):
    pair = timing.prepare(home, spec(sparsity=0.8, distribution=distribution))
    zeros = {
        name: float((layer.weight == 0).float().mean())
        for name, layer in pair.sparse.named_modules()
        if isinstance(layer, torch.nn.Conv2d)
    }
    assert zeros.pop("conv1") == 0
    if distribution == "uniform":
        assert list(zeros.values()) == pytest.approx([0.8] * len(zeros), abs=0.01)
    else:
        assert max(zeros.values()) > 0.8 > min(zeros.values())
    assert masks.sparsity(pair.dense).total == 0


def test_a_mask_for_timing_takes_the_layer_densities_of_a_backbone(home, sparse_backbone):
    asked = spec(sparsity=0.0, densities_of=sparse_backbone)
    pair = timing.prepare(home, asked)
    made, taken = (
        masks.sparsity(pair.sparse),
        masks.sparsity(timing.prepare(home, spec(backbone=sparse_backbone)).sparse),
    )
    assert made.layers == pytest.approx(taken.layers, abs=1e-9)
    assert (pair.description["timing_only"], pair.description["backbone"]) == (True, "")
    assert (pair.description["distribution"], pair.description["sparsity"]) == ("as in pruned", 0.8)
    with pytest.raises(InputError, match="only in one"):
        timing.prepare(home, spec(architecture="resnet32", sparsity=0.0, densities_of=sparse_backbone))
    with pytest.raises(InputError, match="need an architecture instead"):
        spec(backbone=sparse_backbone, densities_of=sparse_backbone)


def test_dense_and_sparse_take_turns_and_no_one_always_begins(home, seconds):
    turns = seconds([0.003] * 4, [0.001] * 4)
    (line,) = run(home, spec())["lines"]
    assert turns == ["sparse", "dense", "dense", "sparse"] * 2
    assert (line["ratio"], line["milliseconds_per_image"]) == (pytest.approx(3), pytest.approx(1))


@pytest.mark.parametrize(
    ("before", "during", "sparse", "reliable"),
    [
        (0.0, 0.1, [1, 1, 1, 1], True),
        (0.0, None, [1, 1, 1, 1], True),
        (0.9, 0.0, [1, 1, 1, 1], False),
        (0.0, 0.9, [1, 1, 1, 1], False),
        (0.0, 0.0, [1, 2, 1, 2], False),
    ],
    ids=["quiet", "too short to tell", "load before", "load during", "wide spread"],
)
def test_a_busy_machine_and_a_wide_spread_are_unreliable(home, seconds, monkeypatch, before, during, sparse, reliable):
    seconds([3, 3, 3, 3], sparse)
    monkeypatch.setattr(speedup, "cpu_usage", lambda: before)
    monkeypatch.setattr(machine.BackgroundLoad, "share", lambda _: during)
    record = run(home, spec())
    assert record["lines"][0]["reliable"] is reliable
    assert (record["busy_before"], record["lines"][0]["busy_during"]) == (before, during)
    assert min(record["load_before"], record["load_after"]) >= 0


def test_other_work_is_what_is_neither_idle_nor_ours(monkeypatch):
    """Of 8 s 2 s are idle, 1 s waits for a disk, 1.5 s are ours and 0.5 s a child's: 3 s are others', 1 s of them stolen."""
    cores = {"user": 100.0, "system": 10.0, "idle": 50.0, "iowait": 5.0, "steal": 1.0, "guest": 7.0}
    ours, childs = [1.0, 0.5, 0.25, 0.25], [3.0, 1.0]
    kind = type("Times", (), {"_asdict": lambda _: dict(cores)})
    process = type("Process", (), {})
    child = type("Child", (), {"cpu_times": lambda _: tuple(childs)})
    process.cpu_times, process.children = lambda _: tuple(ours), lambda _, recursive: [child()]
    monkeypatch.setattr(psutil, "cpu_times", lambda: kind())
    monkeypatch.setattr(psutil, "Process", process)
    others = machine.BackgroundLoad()
    assert others.share() is None  # no time went by
    for name, seconds in {"user": 3.5, "system": 0.5, "idle": 2.0, "iowait": 1.0, "steal": 1.0, "guest": 2.0}.items():
        cores[name] += seconds
    ours[0] += 1.5
    childs[1] += 0.5
    assert others.share() == pytest.approx(3 / 8)


def test_what_a_process_of_no_one_takes_is_other_work():
    """One whose parent has ended keeps a core busy for 1.5 s."""
    loop = "import time; end = time.time() + 1.5\nwhile time.time() < end: pass"
    start = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
    others = machine.BackgroundLoad()
    subprocess.run([sys.executable, "-c", start, loop], check=True)
    time.sleep(1.5)
    assert others.share() > 0.5 / os.cpu_count()


@pytest.mark.parametrize("exact", [True, False])
def test_both_networks_run_in_one_precision_and_in_bf16_only_where_it_is_exact_enough(home, monkeypatch, exact):
    asked = []
    known = compiling.compile

    def compile(name, module, size, batch_size, threads=0, precision="fp32"):
        asked.append(precision)
        return known(name, module, size, batch_size, threads, "bf16" if precision == "best" else precision)

    monkeypatch.setattr(compiling, "compile", compile)
    monkeypatch.setitem(exactness.TOLERANCE, "bf16", 2e-2 if exact else 0.0)
    (line,) = run(home, spec(engines=("torch",)))["lines"]
    if exact:
        assert (asked, line["precision"]) == (["bf16", "bf16", "best", "bf16"], "bf16")
    else:
        assert (asked, line["precision"]) == (["bf16", "fp32", "fp32"], "fp32")


def test_an_engine_that_is_missing_is_a_line_and_the_others_are_measured(home, no_deepsparse):
    record = run(home, spec(engines=("deepsparse", "onnxruntime"), batch_sizes=(1, 2)))
    assert record["problems"] == [no_deepsparse]
    assert [line["engine"] for line in record["lines"]] == ["onnxruntime"] * 2
    with pytest.raises(InputError, match=no_deepsparse):
        run(home, spec(engines=("deepsparse",)))
    assert len(measurements.read_all(home)) == 1


def test_where_no_engine_is_named_the_one_that_is_missing_is_still_a_line(home, no_deepsparse, capsys):
    words = "speedup --architecture resnet20 --sparsity 0.9 --batch-sizes 1 --rounds 3 --threads 1"
    assert cli.main([*words.split(), "--json"]) == 0
    assert no_deepsparse in capsys.readouterr().err
    (record,) = measurements.read_all(home)
    assert record["problems"] == [no_deepsparse]
    assert [line["engine"] for line in record["lines"]] == ["onnxruntime", "torch"]


def test_an_engine_that_cannot_do_the_network_is_a_line(home, monkeypatch):
    known = compiling.compile

    def compile(name, *settings):
        if name == "onnxruntime":
            raise InputError("This network cannot be exported to ONNX.")
        return known(name, *settings)

    monkeypatch.setattr(compiling, "compile", compile)
    record = run(home, spec(engines=("onnxruntime", "torch")))
    assert record["problems"] == ["ONNX Runtime, batch 2: This network cannot be exported to ONNX."]
    assert [line["engine"] for line in record["lines"]] == ["torch"]
    with pytest.raises(InputError, match="ONNX Runtime, batch 2: This network cannot be exported"):
        run(home, spec())


def test_an_engine_whose_output_differs_gives_no_figure(home, monkeypatch):
    known = compiling.compile

    def compile(name, *settings):
        compiled = known(name, *settings)
        if name == "onnxruntime":
            right = compiled._run_batch
            compiled._run_batch = lambda images: 1.1 * right(images)
        return compiled

    monkeypatch.setattr(compiling, "compile", compile)
    record = run(home, spec(engines=("onnxruntime", "torch")))
    assert [line["engine"] for line in record["lines"]] == ["torch"]
    (problem,) = record["problems"]
    assert "The output of ONNX Runtime differs from PyTorch's in fp32 by 1.0e-01" in problem
    assert "above 1e-03, so no figure was kept" in problem
    with pytest.raises(InputError, match="no figure was kept"):
        run(home, spec())
    assert len(measurements.read_all(home)) == 1


@needs_deepsparse
def test_a_worker_killed_in_the_middle_is_started_again_and_the_measurement_ends(home):
    killed = []

    def kill(event):
        if event["done"] == 1 and not killed:
            killed.extend(worker.pid for worker in workers())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    record = run(home, spec(engines=("deepsparse",)), kill)
    assert len(killed) == 2
    (line,) = record["lines"]
    assert len(line["samples"]["dense"]) == len(line["samples"]["sparse"]) == ROUNDS and line["restarts"] == 2
    assert record["problems"] == [
        "DeepSparse, batch 2: its process died and was started again. What it was timed at then was timed anew."
    ]
    assert workers() == []


def test_the_round_that_a_restart_falls_into_is_repeated(home, seconds, monkeypatch):
    """The second round takes the sparse network 9 s, in which its process is started again."""
    seconds([3, 3, 3, 3, 3], [1, 9, 1, 1, 1])
    timed = speedup._seconds

    def dying(compiled, *given):
        took = timed(compiled, *given)
        compiled.died = getattr(compiled, "died", 0) + (took > 4 * len(given[0]))
        return took

    monkeypatch.setattr(speedup, "_seconds", dying)
    monkeypatch.setattr(Compiled, "restarts", property(lambda compiled: getattr(compiled, "died", 0)))
    record = run(home, spec())
    (line,) = record["lines"]
    assert line["samples"] == {"dense": [3000] * ROUNDS, "sparse": [1000] * ROUNDS}
    assert line["restarts"] == 1 and "ONNX Runtime, batch 2: its process died" in record["problems"][0]


@needs_deepsparse
def test_a_worker_killed_again_and_again_is_reported_and_the_other_engines_are_measured(home):
    def kill(_):
        for worker in workers():
            worker.kill()

    record = run(home, spec(engines=("deepsparse", "onnxruntime")), kill)
    (problem,) = record["problems"]
    assert problem.startswith("DeepSparse, batch 2: DeepSparse's process died twice (signal 9)")
    assert [line["engine"] for line in record["lines"]] == ["onnxruntime"]
    assert workers() == []


@pytest.mark.parametrize("engine", HERE)
def test_a_cancelled_measurement_closes_its_engines_and_leaves_no_record(home, engine):
    def cancel(event):
        if event["done"] == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(home, spec(engines=(engine,)), cancel)
    assert workers() == [] and measurements.read_all(home) == []


@pytest.mark.parametrize(
    ("fields", "words"),
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
        (
            {"backbone": "efficientnet_lite0"},
            "efficientnet_lite0 is dense, with 0.2% of its weights 0, so there is nothing to gain.",
        ),
        ({"backbone": "nothing"}, "Unknown backbone 'nothing'"),
    ],
)
def test_what_cannot_be_measured_is_one_line(home, fields, words):
    with pytest.raises(InputError) as refusal:
        run(home, spec(**fields))
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert measurements.read_all(home) == []


def test_the_command_gives_its_figures(home, capsys):
    words = (
        "speedup --architecture resnet20 --sparsity 0.9 --engines onnxruntime --batch-sizes 1,2 --rounds 3 --threads 1"
    )
    assert cli.main([*words.split(), "--json"]) == 0
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


@pytest.mark.parametrize(
    ("words", "said"),
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
def test_the_command_refuses_in_one_line(capsys, words, said):
    assert cli.main(["speedup", *words.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("Error: ") and said in printed.err
    assert printed.err.count("\n") == 1
