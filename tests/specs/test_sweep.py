"""From a sweep's YAML to its tasks: what lists multiply to, what needs what, and what is refused."""

import pytest

from sparse_core.errors import InputError
from sparse_core.specs.sweep import plan
from sparse_core.specs.transfer import FinetuneSpec

CHAIN = """
variables: {upstream: digits}
defaults:
  sparsify: {epochs: 12, pruning_steps: 4}
runs:
  - {kind: probe, backbones: [late, resnet18], datasets: [digits, pets], seeds: 2, epochs: 10}
  - {kind: sparsify, method: GMP, sparsity: 0.9, backbone: "r_dense_s{seed}", dataset: "${upstream}", name: late}
  - {kind: sparsify, methods: Dense, seeds: 2, backbone: resnet20, dataset: "${upstream}", name: "r_dense_s{seed}"}
  - kind: sparsify
    methods: [RigL ERK 5x, LTH-T]
    sparsities: [0.8, 0.95]
    seeds: [1]
    backbone: r_dense_s{seed}
    dataset: ${upstream}
    name: r_{method}_{sparsity}
  - {kind: finetune, backbones: {methods: [lth-t, ACDC], sparsity: 0.95}, dataset: pets, seeds: [3, 5]}
"""


def entry(**values) -> str:
    given = {"kind": "probe", "backbone": "a", "dataset": "digits"} | values
    return f"runs: [{given}]".replace("None", "null")


def refusal(text: str, **variables) -> str:
    with pytest.raises(InputError) as refused:
        plan(text, "x", variables)
    return str(refused.value)


def test_lists_multiply_and_what_is_needed_comes_first():
    made = plan(CHAIN, "zoo")
    networks = [task for task in made.tasks if task.kind == "sparsify"]
    assert [(task.key, task.seeds, task.after) for task in networks] == [
        ("r_dense_s0", (0,), ()),
        ("late", (0,), ("r_dense_s0",)),
        ("r_dense_s1", (1,), ()),
        ("r_rigl5x_80", (1,), ("r_dense_s1",)),
        ("r_rigl5x_95", (1,), ("r_dense_s1",)),
        ("r_ltht_80", (1,), ("r_dense_s1",)),
        ("r_ltht_95", (1,), ("r_dense_s1",)),
    ]
    assert all(task.spec.epochs == 12 and task.spec.dataset == "digits" for task in networks)
    steps = {task.spec.method: task.spec.pruning_steps for task in networks}
    assert steps == {"Dense": 8, "GMP": 4, "RigL ERK 5x": 8, "LTH-T": 4}  # defaults go to methods that have them
    probes = {(task.spec.backbone, task.spec.dataset): task for task in made.tasks if task.kind == "probe"}
    assert {key: (task.seeds, task.after) for key, task in probes.items()} == {
        ("late", "digits"): ((0, 1), ("late",)),
        ("late", "pets"): ((0, 1), ("late",)),
        ("resnet18", "digits"): ((0, 1), ()),
        ("resnet18", "pets"): ((0, 1), ()),
    }
    finetunings = [task for task in made.tasks if task.kind == "finetune"]
    assert [(task.spec.backbone, task.seeds) for task in finetunings] == [("r_ltht_95", (3,)), ("r_ltht_95", (5,))]
    keys = [task.key for task in made.tasks]
    assert all(keys.index(name) < keys.index(task.key) for task in made.tasks for name in task.after)


def test_settings_are_options_and_keep_the_papers_defaults():
    text = entry(kind="finetune", dataset="cars", epochs=3, label_smoothing=0.1)
    (task,) = plan(text, "x").tasks
    usual = FinetuneSpec.usual_settings("cars")
    assert (task.spec.settings.epochs, task.spec.settings.learning_rate) == (3, usual.learning_rate)
    assert usual.learning_rate == 0.01 and task.spec.label_smoothing == 0.1


def test_two_spellings_of_one_run_are_one_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    entries = [
        "{kind: sparsify, methods: [GMP, gmp], sparsities: [0.9, 9e-1], backbone: b, dataset: ./images, name: net}",
        f"{{kind: sparsify, method: G-MP, sparsity: 0.9, epochs: 30, backbone: b, dataset: {tmp_path}/images, name: other}}",
        "{kind: probe, backbones: [net, other], dataset: digits, sweep_lr: [0.1, 1e-2], seeds: 2}",
        "{kind: probe, backbone: net, dataset: digits, sweep_lr: [0.01, 0.1], seeds: [1, 2]}",
    ]
    made = plan("runs: [" + ", ".join(entries) + "]", "x")
    assert [(task.kind, task.spec.backbone, task.seeds) for task in made.tasks] == [
        ("sparsify", "b", (0,)),
        ("probe", "net", (0, 1, 2)),
    ]
    assert made.tasks[1].spec.sweep_lr == (0.01, 0.1)


def test_dense_has_no_sparsity_among_methods_that_have():
    text = entry(kind="sparsify", methods=["dense", "GMP"], sparsities=[0.8, 0.9], name="{method}_{sparsity}")
    assert [task.key for task in plan(text, "x").tasks] == ["dense_0", "gmp_80", "gmp_90"]


def test_the_same_tasks_have_the_same_id():
    first = plan(entry(learning_rate=1), "x")
    assert first.id == plan(entry(learning_rate=1.0, seeds=[0, 1, 2, 3, 4]) + "\nparallel: 3", "x").id
    assert first.id.startswith("x-")
    assert len({first.id, plan(entry(seeds=2), "x").id, plan(entry(), "y").id}) == 3


def test_variables_are_filled_in_and_asked_for():
    text = "variables: {data: null, epochs: 7}\n" + entry(dataset="${data}", epochs="${epochs}")
    (task,) = plan(text, "x", {"data": "pets"}).tasks
    assert (task.spec.dataset, task.spec.settings.epochs) == ("pets", 7)
    assert refusal(text).endswith("Give it a value with --set data=VALUE.")
    assert "Unknown variable 'dta'. Did you mean data?" in refusal(text, dta="pets")
    assert "Unknown variable 'other'" in refusal(entry(dataset="${other}"))


NETWORK = {"kind": "sparsify", "method": "GMP", "sparsity": 0.9, "name": "net"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "This is no YAML: expected the node content"),
        ("", "Expected a sweep as 'key: value' pairs; got 'None'."),
        ("- 1", "Expected a sweep as 'key: value' pairs"),
        ("? [a]\n: 3", "This is no YAML: found unhashable key in line 1."),
        ("[" * 5000, "nested too deeply"),
        ("runs: []", "A sweep needs 'runs'"),
        ("run: []", "Unknown key of a sweep 'run'. Did you mean runs?"),
        (entry() + "\nparallel: 0", "parallel must be a whole number, at least 1; got 0."),
        (entry() + "\nname: a/b", "A sweep's name has"),
        (entry() + "\ndefaults: {prob: {}}", "Unknown kind in defaults 'prob'. Did you mean probe?"),
        ("runs: [5]", "Entry 1 of the sweep: Expected an entry as 'key: value' pairs"),
        (entry(kind="prune"), "Entry 1 of the sweep: Unknown kind in 'kind' 'prune'"),
        (entry(dataset=None), "probe needs a dataset."),
        (entry(epoch=5), "Unknown option 'epoch'. Did you mean epochs"),
        (entry(backbone_hash="x"), "Unknown option 'backbone_hash'"),
        (entry(epochs="ten"), "epochs must be a whole number; got ten."),
        (entry(epochs=0), "epochs must be at least 1; got 0."),
        (entry(learning_rate="fast"), "learning_rate must be a number; got fast."),
        (entry(dataset=5), "dataset must be text; got 5."),
        (entry(seeds=0), "seeds must be their number, or a list of whole numbers from 0; got 0."),
        (entry(seeds=[-1]), "seeds must be their number"),
        (entry(kind="finetune", augment="maybe"), "augment must be true or false; got maybe."),
        (
            "runs: [{kind: probe, backbone: a, backbones: [b], dataset: d}]",
            "'backbone' is given twice, as 'backbones' too.",
        ),
        (
            "runs:\n- {kind: probe, backbone: a, dataset: d,\n   epochs: 5, epochs: 6}",
            "'epochs' is given twice in line 3.",
        ),
        (entry(backbone="made"), "No network made above fits 'made'. Entries choose from those before them."),
        (entry(backbone={"metod": "GMP"}), "Unknown choice of backbones 'metod'. Did you mean method?"),
        (entry(**NETWORK, backbone="net"), "These networks need each other, so none can be made first: net → net."),
        (
            f"runs: [{NETWORK | {'backbone': 'b', 'dataset': 'd', 'name': 'a'}}, "
            f"{NETWORK | {'backbone': 'a', 'dataset': 'd', 'name': 'b'}}]",
            "none can be made first: a → b → a.",
        ),
        (entry(**NETWORK | {"sparsity": [0.8, 0.9]}), "Two different networks would be named 'net'."),
        (entry(**NETWORK | {"sparsity": 1.5}), "sparsity must be in (0, 1), such as 0.9, for GMP; got 1.5."),
        (entry(**NETWORK | {"method": "GPM"}), "Unknown method 'GPM'. Did you mean GMP"),
        (entry(**NETWORK | {"method": "AC/DC"}, pruning_steps=3), "AC/DC has no pruning steps"),
        (entry(**NETWORK | {"name": "a b"}), "A network's name has up to 64 letters"),
        (entry(**NETWORK | {"name": "a{epoch}"}), "Unknown field of the name 'a{epoch}': 'epoch'"),
        (entry(seeds=20_000, kind="finetune"), "More than 10,000 runs. Split the sweep."),
    ],
)
def test_wrong_input_is_one_line(text, message):
    said = refusal(text)
    assert message in said and "\n" not in said
