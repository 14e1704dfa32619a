"""An option is declared once: what a spec's command says, the command line reads back as the same spec."""

import dataclasses
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.cli import _parser
from sparse_core.errors import InputError
from sparse_core.specs import options
from sparse_core.specs.checkpoints import ImportSpec, InspectSpec
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec

names = st.sampled_from(["resnet50", "my net", "a'b", "cars", "digits"])
rates = st.floats(1e-6, 10)
settings = st.builds(
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
    settings=settings,
    sweep_lr=st.lists(rates, max_size=3).map(tuple),
    precision=st.sampled_from(["fp32", "bf16"]),
    engine=st.sampled_from(["auto", "torch"]),
)
finetunings = st.builds(
    FinetuneSpec,
    names,
    names,
    settings=settings,
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
imports = st.builds(
    ImportSpec, names, names, sparsity=st.none() | st.floats(0, 0.99), method=st.sampled_from(["", "AC/DC"])
)


def parsed(command: str, spec: type) -> object:
    words = shlex.split(command)
    assert tuple(words[:3]) == options.PROGRAM
    return options.from_arguments(spec, _parser().parse_args(words[3:]))


@given(probes)
def test_a_probe(spec):
    assert parsed(options.command("probe", spec), ProbeSpec) == spec


@given(finetunings)
def test_a_finetuning(spec):
    assert parsed(options.command("finetune", spec), FinetuneSpec) == spec


@given(speedups)
def test_a_speedup(spec):
    assert parsed(options.command("speedup", spec), SpeedupSpec) == spec


@given(imports)
def test_an_import(spec):
    assert parsed(options.command("import", spec), ImportSpec) == spec


def test_only_what_differs_from_the_defaults_is_in_the_command():
    usual = FinetuneSpec("net", "cars", settings=FinetuneSpec.usual_settings("cars"))
    assert options.command("finetune", usual) == "python -m sparse_core finetune --backbone net --dataset cars --json"
    slower = dataclasses.replace(
        usual, settings=dataclasses.replace(usual.settings, learning_rate=0.001), augment=False
    )
    assert "--learning-rate 0.001 --no-augmentation" in options.command("finetune", slower)
    assert options.command("inspect", InspectSpec("a b.pth")) == "python -m sparse_core inspect 'a b.pth' --json"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["speedup", "--architecture", "resnet50", "--sparsity", "0.9", "--batch-sizes", "1,x"],
            "whole numbers such as 1,64",
        ),
        (
            ["probe", "--backbone", "a", "--dataset", "b", "--sweep-lr", "fast"],
            "numbers such as 0.001,0.01; got 'fast'",
        ),
    ],
)
def test_lists_that_are_no_numbers_are_one_line(arguments, message):
    spec = SpeedupSpec if arguments[0] == "speedup" else ProbeSpec
    with pytest.raises(InputError, match=message):
        options.from_arguments(spec, _parser().parse_args(arguments))


def test_lists_take_commas_and_blanks():
    arguments = ["speedup", "--architecture", "resnet50", "--sparsity", "0.9", "--batch-sizes", "1,2", "64"]
    assert options.from_arguments(SpeedupSpec, _parser().parse_args(arguments)).batch_sizes == (1, 2, 64)
