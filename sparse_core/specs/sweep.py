"""A sweep: many runs from one YAML file, with what each needs before it. ``plan`` makes a list of tasks from the text.

    name: zoo                               # else the file's name
    variables: {upstream: digits}           # ${upstream} below; --set upstream=PATH replaces it
    parallel: 1
    executor: slurm                         # else local; slurm: {partition: gpu, time: 2} are the options of its tasks
    defaults:
      sparsify: {epochs: 12, batch_size: 128}
    runs:
      - {kind: sparsify, method: Dense, seeds: 3, backbone: resnet20, dataset: "${upstream}", name: "resnet20_dense_s{seed}"}
      - kind: sparsify
        methods: [GMP, AC/DC]
        sparsities: [0.8, 0.9]
        backbone: resnet20_dense_s{seed}
        dataset: ${upstream}
        name: resnet20_{method}_{sparsity}_s{seed}
      - {kind: probe, backbones: [made, efficientnet_lite0], dataset: digits, seeds: 5}
      - {kind: finetune, backbones: {method: GMP, sparsity: 0.9}, dataset: digits, epochs: 10}  # detectors: finetune_detector

An entry's other keys are the fields of its kind's spec. Lists multiply; seeds are a list or their number, counted from 0.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

import yaml

from sparse_core.errors import InputError, unknown_name
from sparse_core.specs import options
from sparse_core.specs.checks import require, require_known
from sparse_core.specs.identity import parse
from sparse_core.specs.locations import absolute_backbone, absolute_dataset
from sparse_core.specs.slurm import SlurmSpec
from sparse_core.specs.sparsify import SparsifySpec, has_option, known_method
from sparse_core.specs.transfer import DetectionSpec, FinetuneSpec, ProbeSpec

Spec = SparsifySpec | ProbeSpec | FinetuneSpec | DetectionSpec
AnySpec = TypeVar("AnySpec", bound=Spec)
KINDS: dict[str, type[Spec]] = {"sparsify": SparsifySpec, "probe": ProbeSpec, "finetune": FinetuneSpec}
KINDS |= {"finetune_detector": DetectionSpec}
KEYS = ("name", "variables", "parallel", "executor", "slurm", "defaults", "runs")
EXECUTORS = ("local", "slurm")
MADE = "made"
LONGEST = 10_000  # runs of a sweep
_PLURALS = {"methods": "method", "sparsities": "sparsity", "backbones": "backbone", "datasets": "dataset"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Task:
    """One job of a sweep: a kind of work, its spec, and its seeds (several only of a probe, which trains them together).

    ``key`` names it in the sweep; it is the new network's name for ``sparsify``. ``after`` are the keys of the tasks that make
    its backbone.
    """

    key: str
    kind: str
    spec: Spec
    seeds: tuple[int, ...]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The tasks of a sweep, each after those that it needs, how many of them run side by side, and what does them."""

    name: str
    tasks: tuple[Task, ...]
    parallel: int = 1
    executor: str = "local"
    slurm: SlurmSpec = field(default_factory=SlurmSpec)

    @property
    def id(self) -> str:
        """The same for every text that asks for the same tasks under the same name."""
        asked = [[task.key, dataclasses.asdict(task.spec), task.seeds] for task in self.tasks]
        return f"{self.name}-{hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]}"


def plan(text: str, name: str, variables: Mapping[str, str] = {}) -> Plan:
    """The tasks that a YAML text asks for. ``name`` is the sweep's where the text gives none; ``variables`` replace the text's.

    Raises InputError, in one line that names the entry, for what is no YAML, unknown keys and options, values out of range, names
    that are given twice, and networks that need each other.
    """
    document = _read(text)
    known = {**_mapping(document.get("variables"), "variables"), **variables}
    undeclared = sorted(variables.keys() - _mapping(document.get("variables"), "variables").keys())
    if undeclared:
        raise unknown_name("variable", undeclared[0], _mapping(document.get("variables"), "variables"))
    document = {key: _filled(document[key], known) for key in KEYS if key in document and key != "variables"}
    defaults = _mapping(document.get("defaults"), "defaults")
    for kind in defaults:
        _require_kind(kind, "defaults")
    entries = document.get("runs")
    if not isinstance(entries, list) or not entries:
        raise InputError("A sweep needs 'runs', a list of entries such as {kind: probe, backbone: …, dataset: …}.")
    tasks = _Tasks()
    for number, entry in enumerate(entries, 1):
        try:
            _add_entry(tasks, entry, defaults)
        except InputError as error:
            raise InputError(f"Entry {number} of the sweep: {error}", error.candidates) from error
    parallel, title = document.get("parallel", 1), str(document.get("name") or name)
    require(type(parallel) is int and parallel >= 1, "parallel", "a whole number, at least 1", parallel)
    if not _NAME.fullmatch(title):
        raise InputError(
            f"A sweep's name has up to 64 letters, digits, dots, dashes and underscores; got '{title[:80]}'."
        )
    executor = str(document.get("executor", "local"))
    require_known("executor", executor, EXECUTORS)
    return Plan(title, in_order(tasks.finished()), parallel, executor, _slurm(document.get("slurm")))


def task(kind: str, spec: Spec, seeds: tuple[int, ...], after: tuple[str, ...] = ()) -> Task:
    """A task named by what it asks for: requests that agree have one key. A network may then be nameless, and a spec that starts
    from it has this key for its backbone."""
    return Task(_request(kind, spec, () if kind == "probe" else seeds), kind, spec, seeds, after)


def transfers(kind: str, specs: Iterable[Spec], seeds: tuple[int, ...], after: tuple[str, ...] = ()) -> Iterator[Task]:
    """The tasks of transfers with all these seeds: those of a probe are trained together, others one after another."""
    for spec in specs:
        for some in (seeds,) if kind == "probe" else ((seed,) for seed in seeds):
            yield task(kind, spec, some, after)


def in_order(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """The tasks in their order, but each after those that it needs. Raises InputError for a circle, and for what is missing."""
    named, done = {task.key: task for task in tasks}, dict[str, Task]()
    for key in named:
        path = [key]
        while path:
            needed = next((name for name in named[path[-1]].after if name not in done), None)
            if needed is None:
                done.setdefault(path[-1], named[path.pop()])
            elif needed in path:
                names = " → ".join([*path[path.index(needed) :], needed])
                raise InputError(f"These networks need each other, so none can be made first: {names}.")
            elif needed not in named:
                raise InputError(f"The task '{path[-1]}' needs '{needed}', which is missing.")
            else:
                path.append(needed)
    return tuple(done.values())


def method_in_names(method: str) -> str:
    """A method's name as names of networks have it: acdc, rigl5x, ltht."""
    return re.sub(r"[\W_]|erk", "", method.lower())


class _Tasks:
    """The tasks so far. The same request under two names is one task; a name stands for one request."""

    def __init__(self) -> None:
        self.networks: dict[str, Task] = {}
        self.others: dict[str, Task] = {}
        self.same: dict[str, str] = {}  # the request of a network → the name under which it is made
        self.alias: dict[str, str] = {}

    def add_network(self, spec: SparsifySpec, seed: int) -> None:
        spec = self._by_own_name(spec)
        request = _request("sparsify", dataclasses.replace(spec, name=""), (seed,))
        name = self.same.setdefault(request, spec.name)
        taken = self.networks.get(spec.name)
        if taken and _request("sparsify", dataclasses.replace(taken.spec, name=""), taken.seeds) != request:  # type: ignore[arg-type]
            raise InputError(
                f"Two different networks would be named '{spec.name}'. Put what differs into the name, such as {{seed}}, "
                "{sparsity} or {epochs}."
            )
        if name != spec.name:
            self.alias[spec.name] = name
        else:
            self.networks[name] = Task(name, "sparsify", spec, (seed,))
        _require_few(len(self.networks) + len(self.others))

    def add_transfer(self, kind: str, spec: ProbeSpec | FinetuneSpec | DetectionSpec, seeds: tuple[int, ...]) -> None:
        """A request that is there already gets the seeds that it lacks."""
        for new in transfers(kind, [self._by_own_name(spec)], seeds):
            before = self.others[new.key].seeds if new.key in self.others else ()
            self.others[new.key] = dataclasses.replace(new, seeds=tuple(dict.fromkeys((*before, *new.seeds))))
        _require_few(len(self.networks) + len(self.others))

    def made(self, chosen: Mapping[str, Any]) -> list[str]:
        """The names of the networks so far that have these values; a key may be plural, a value a list."""
        wanted = {_PLURALS.get(key, "seed" if key == "seeds" else key): _listed(value) for key, value in chosen.items()}
        for key in wanted:
            if key not in ("method", "sparsity", "seed"):
                raise unknown_name("choice of backbones", key, ("method", "sparsity", "seed"))
        if "method" in wanted:
            wanted["method"] = [known_method(str(method)) for method in wanted["method"]]
        found = [
            name
            for name, task in self.networks.items()
            if all(_value_of(task, key) in values for key, values in wanted.items())
        ]
        if not found:
            raise InputError(
                f"No network made above fits {dict(chosen) or MADE!r}. Entries choose from those before them."
            )
        return found

    def _by_own_name(self, spec: AnySpec) -> AnySpec:
        return dataclasses.replace(spec, backbone=self.alias.get(spec.backbone, spec.backbone))

    def finished(self) -> Iterator[Task]:
        """All tasks with what they need; another name of a network is replaced by its own."""
        for task in (*self.networks.values(), *self.others.values()):
            spec = self._by_own_name(task.spec)
            yield dataclasses.replace(task, spec=spec, after=(spec.backbone,) if spec.backbone in self.networks else ())


def _slurm(given: Any) -> SlurmSpec:
    """The options under ``slurm``."""
    values = _mapping(given, "slurm")
    for key in values:
        if key not in options.names(SlurmSpec):
            raise unknown_name("option of slurm", str(key), options.names(SlurmSpec))
    return SlurmSpec(**_converted(SlurmSpec, values))


def _add_entry(tasks: _Tasks, entry: Any, defaults: Mapping[str, Any]) -> None:
    entry = dict(_mapping(entry, "an entry"))
    kind = entry.pop("kind", None)
    _require_kind(kind, "'kind'")
    usual = _mapping(defaults.get(kind), f"the defaults of {kind}")
    given, usual = (_singular(values, KINDS[kind]) for values in (entry, usual))
    seeds = _seeds(given.pop("seeds", usual.get("seeds", KINDS[kind].usual_seeds)))
    usual.pop("seeds", None)
    values = {**usual, **given}
    needed = ("method", "backbone", "dataset") if kind == "sparsify" else ("backbone", "dataset")
    one_shot = all(
        str(each).lower() == "magnitude" for each in _listed(values.get("method"))
    )  # a detector needs no data
    for name in needed[:-1] if kind == "sparsify" and one_shot else needed:
        if values.get(name) in (None, []):
            raise InputError(f"{kind} needs a {name}.")
    values.setdefault("dataset", "")
    values["backbone"] = _backbones(tasks, values["backbone"])
    lists = {name: value if _multiplies(KINDS[kind], name, value) else [value] for name, value in values.items()}
    _require_few(len(seeds) * math.prod(map(len, lists.values())))
    for combination in itertools.product(*lists.values()):
        chosen = dict(zip(lists, combination, strict=True))
        if kind == "sparsify":
            _add_networks(tasks, chosen, usual.keys() - given.keys(), seeds)
        else:
            tasks.add_transfer(kind, _transfer(KINDS[kind], chosen), seeds)


def _add_networks(tasks: _Tasks, values: dict[str, Any], by_default: Iterable[str], seeds: tuple[int, ...]) -> None:
    """A network for each seed. Dense has no sparsity; defaults that a method does not have are left out."""
    method = known_method(str(values["method"]))
    values = {name: value for name, value in values.items() if name not in by_default or has_option(method, name)}
    if method == "Dense":
        values.pop("sparsity", None)
    made = "{backbone}_{method}_{sparsity}_s{seed}" if "sparsity" in values else "{backbone}_{method}_s{seed}"
    for seed in seeds:
        percent = f"{100 * _number(values.get('sparsity', 0.0), 'sparsity'):g}"
        shown = {**values, "seed": seed, "method": method_in_names(method), "sparsity": percent}
        backbone = _text(values["backbone"], "backbone", shown)
        name = _text(values.get("name") or made, "name", {**shown, "backbone": backbone})
        if not _NAME.fullmatch(name):
            raise InputError(
                f"A network's name has up to 64 letters, digits, dots, dashes and underscores; got '{name[:80]}'."
            )
        tasks.add_network(_spec(SparsifySpec, {**values, "backbone": backbone, "name": name}), seed)


def _transfer(kind: type[Spec], values: dict[str, Any]) -> Any:
    """The spec of a transfer; the fields of its settings are options as all others are, with the paper's defaults."""
    usual = kind.usual_settings(str(values["dataset"]))  # type: ignore[union-attr]
    names = {field.name for field in dataclasses.fields(usual)}
    settings = _converted(type(usual), {name: value for name, value in values.items() if name in names})
    rest = {name: value for name, value in values.items() if name not in names}
    return _spec(kind, {**rest, "settings": {**dataclasses.asdict(usual), **settings}})


def _spec(kind: type[Spec], values: dict[str, Any]) -> Any:
    settings = {"settings": values["settings"]} if "settings" in values else {}
    document = _converted(kind, {name: value for name, value in values.items() if name != "settings"}) | settings
    document["backbone"] = absolute_backbone(document["backbone"])
    document["dataset"] = absolute_dataset(document["dataset"]) if document["dataset"] else ""
    return parse(kind, document)


def _converted(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as the spec's fields have them: 1 and 1.0, and YAML's text 1e-4, are one request."""
    hints = get_type_hints(kind)
    return {name: _as(hints[name], name, value) for name, value in values.items()}


def _as(hint: Any, name: str, value: Any) -> Any:
    if hint in (float, float | None):
        return None if value is None and hint is not float else _number(value, name)
    if hint == tuple[float, ...]:
        return [_number(each, name) for each in _listed(value)]
    expected = {str: "text", int: "a whole number", bool: "true or false"}.get(hint, "another value")
    require(type(value) is hint, name, expected, value)
    return value


def _number(value: Any, name: str) -> float:
    try:
        if not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{name} must be a number; got {value}.")


def _singular(values: Mapping[str, Any], kind: type[Spec]) -> dict[str, Any]:
    """The options of an entry by their fields' names. Raises InputError for unknown ones, and for one that is given twice."""
    known = [*options.names(kind), "seeds"]
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = _PLURALS.get(str(key), str(key))
        if name not in known:
            raise unknown_name("option", str(key), known)
        if name in found:
            raise InputError(f"'{name}' is given twice, as '{key}' too.")
        found[name] = value
    return found


def _backbones(tasks: _Tasks, given: Any) -> list[str]:
    """The names: as given, or chosen from the networks above."""
    names: list[str] = []
    for each in _listed(given):
        if each == MADE or isinstance(each, dict):
            names += tasks.made({} if each == MADE else each)
        else:
            require(isinstance(each, str), "backbone", "a name, 'made', or a choice such as {method: GMP}", each)
            names.append(each)
    return list(dict.fromkeys(names))


def _multiplies(kind: type[Spec], name: str, value: Any) -> bool:
    return isinstance(value, list) and not (name == "sweep_lr" and not any(isinstance(each, list) for each in value))


def _seeds(given: Any) -> tuple[int, ...]:
    """A list of seeds, or their number, counted from 0."""
    _require_few(given if type(given) is int else 0)
    seeds = given if isinstance(given, list) else range(given) if type(given) is int else ()
    whole = all(type(seed) is int and seed >= 0 for seed in seeds)
    require(bool(seeds) and whole, "seeds", "their number, or a list of whole numbers from 0", given)
    return tuple(dict.fromkeys(seeds))


def _require_few(runs: int) -> None:
    if runs > LONGEST:
        raise InputError(f"More than {LONGEST:,} runs. Split the sweep.")


def _value_of(task: Task, key: str) -> Any:
    return task.seeds[0] if key == "seed" else getattr(task.spec, key)


def _text(template: Any, what: str, values: Mapping[str, Any]) -> str:
    """The template with values in place of {names}."""
    require(isinstance(template, str), what, "text", template)

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise unknown_name(f"field of the {what} '{template}':", found[1], values)
        return str(values[found[1]])

    return _FIELD.sub(value, template)


def _filled(value: Any, variables: Mapping[str, Any]) -> Any:
    """The document with variables filled in; text that is one variable becomes its value, whatever its type."""
    if isinstance(value, dict):
        return {key: _filled(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value
    whole = _VARIABLE.fullmatch(value)
    return (
        _variable(whole[1], variables) if whole else _VARIABLE.sub(lambda it: str(_variable(it[1], variables)), value)
    )


def _variable(name: str, variables: Mapping[str, Any]) -> Any:
    if name not in variables:
        raise unknown_name("variable", name, variables)
    if variables[name] is None:
        raise InputError(f"The sweep leaves its variable '{name}' to you. Give it a value with --set {name}=VALUE.")
    return variables[name]


def _request(kind: str, spec: Spec, seeds: tuple[int, ...]) -> str:
    asked = json.dumps([kind, dataclasses.asdict(spec), seeds], sort_keys=True)
    return f"{kind}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"


def _read(text: str) -> dict[str, Any]:
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise InputError(f"This is no YAML: {getattr(error, 'problem', None) or error}{where}.") from error
    except RecursionError as error:
        raise InputError("This is no YAML of a sweep: it is nested too deeply.") from error
    document = _mapping(document, "a sweep")
    for key in document:
        if key not in KEYS:
            raise unknown_name("key of a sweep", str(key), KEYS)
    return document


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but a key that is given twice is refused: else the last would win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key in (key for key, _ in node.value if isinstance(key.value, str)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if value is None and what != "a sweep":
        return {}
    if not isinstance(value, dict):
        raise InputError(f"Expected {what} as 'key: value' pairs; got {str(value)[:60]!r}.")
    return value


def _require_kind(kind: Any, where: str) -> None:
    if kind not in KINDS:
        raise unknown_name(f"kind in {where}", str(kind), KINDS)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
