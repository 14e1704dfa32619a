"""An option is declared once: what a spec's command says, the command line reads back as the same spec."""

import dataclasses
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_core.cli import _parser
from sparse_core.specs import options
from sparse_core.specs.checkpoints import ImportSpec, InspectSpec
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec
from tests.support.refusals import refused

NAMED = ("--backbone", "a", "--dataset", "b")
TIMED = ("--architecture", "resnet50", "--sparsity", "0.9")
names = st.sampled_from(["resnet50", "my net", "a'b", "cars", "digits"])
rates = st.floats(1e-6, 10)
hyperparameters = st.builds(
    Hyperparameters,
    epochs=st.integers(1, 500),
    learning_rate=rates,
    momentum=st.floats(0, 0.99),
    weight_decay=st.floats(0, 1),
    batch_size=st.integers(1, 512),
    step_epochs=st.integers(1, 100),
    step_factor=st.floats(0.01, 1),
)
probes = st.builds(
    ProbeSpec,
    names,
    names,
    settings=hyperparameters,
    sweep_lr=st.lists(rates, max_size=3).map(tuple),
    precision=st.sampled_from(["fp32", "bf16"]),
    engine=st.sampled_from(["auto", "torch"]),
)
finetunings = st.builds(
    FinetuneSpec,
    names,
    names,
    settings=hyperparameters,
    optimizer=st.sampled_from(["sgd", "adamw"]),
    from_scratch=st.booleans(),
    freeze_batch_norm=st.booleans(),
    label_smoothing=st.floats(0, 0.9),
    augment=st.booleans(),
)
speedups = st.builds(
    SpeedupSpec,
    architecture=names,
    sparsity=st.floats(0.01, 0.99),
    distribution=st.sampled_from(["uniform", "erk"]),
    engines=st.lists(st.sampled_from(["torch", "onnxruntime"]), unique=True).map(tuple),
    batch_sizes=st.lists(st.integers(1, 256), min_size=1, max_size=3).map(tuple),
    rounds=st.integers(3, 20),
)
methods = st.sampled_from(["", "AC/DC"])
imports = st.builds(ImportSpec, names, names, sparsity=st.none() | st.floats(0, 0.99), method=methods)


@pytest.mark.parametrize(
    ("verb", "specs"), [("probe", probes), ("finetune", finetunings), ("speedup", speedups), ("import", imports)]
)
@settings(deadline=None)  # a busy machine is no failure
@given(data=st.data())
def test_a_command_is_read_back_as_the_same_spec(verb, specs, data):
    spec = data.draw(specs)
    arguments = shlex.split(options.command(verb, spec))
    assert tuple(arguments[:1]) == options.PROGRAM
    assert options.from_arguments(type(spec), _parser().parse_args(arguments[1:])) == spec


def test_only_what_differs_from_the_defaults_is_in_the_command():
    usual = FinetuneSpec("net", "cars", settings=FinetuneSpec.usual_settings("cars"))
    assert options.command("finetune", usual) == "sparse-transfer finetune --backbone net --dataset cars --json"
    slow = dataclasses.replace(usual.settings, learning_rate=0.001)
    slower = dataclasses.replace(usual, settings=slow, augment=False)
    assert "--learning-rate 0.001 --no-augmentation" in options.command("finetune", slower)
    assert options.command("inspect", InspectSpec("a b.pth")) == "sparse-transfer inspect 'a b.pth' --json"


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        (SpeedupSpec, ["speedup", *TIMED, "--batch-sizes", "1,x"], "whole numbers such as 1,64"),
        (ProbeSpec, ["probe", *NAMED, "--sweep-lr", "fast"], "numbers such as 0.001,0.01; got 'fast'"),
    ],
)
def test_lists_with_other_than_numbers_are_refused_in_one_line(spec, arguments, message):
    refused(options.from_arguments, spec, _parser().parse_args(arguments), match=message)


def test_lists_take_commas_and_blanks():
    arguments = ["speedup", *TIMED, "--batch-sizes", "1,2", "64"]
    assert options.from_arguments(SpeedupSpec, _parser().parse_args(arguments)).batch_sizes == (1, 2, 64)
