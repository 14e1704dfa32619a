"""The command line: ``python -m sparse_core VERB … --json``.

With ``--json``, stdout holds one JSON document and words go to stderr. Exit codes: 0 done, 2 the user's input is wrong
(one line, no traceback), 1 a fault of ours, 130 interrupted. The dashboard may run meanwhile: the command line never
opens its cache.
"""

import argparse
import dataclasses
import json
import logging
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from sparse_core import catalog
from sparse_core.errors import InputError, as_input_error, unknown_name
from sparse_core.networks import finetuned
from sparse_core.paths import atomic_file, default_home
from sparse_core.results import measures
from sparse_core.results.records import Record, Records
from sparse_core.results.store import Store, default_database, rebuild
from sparse_core.specs.specs import (
    DISTRIBUTIONS,
    ENGINES,
    FULL_LEARNING_RATE,
    OPTIMIZERS,
    PRECISIONS,
    SPEEDUP_MODES,
    FinetuneSpec,
    Hyperparameters,
    ImportSpec,
    InspectSpec,
    Job,
    ProbeSpec,
    SpeedupSpec,
    TransferSpec,
    first_free_replicate,
    full_learning_rate,
)
from sparse_core.views import labels


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    try:
        options = _parser().parse_args(arguments)
        options.home = default_home()
        answer = options.verb_function(options)
    except KeyboardInterrupt:
        print("Interrupted. Finished runs and cached features were kept.", file=sys.stderr)
        return 130
    except Exception as error:
        logging.getLogger(__name__).debug("fault", exc_info=True)
        wrong = as_input_error(error)
        if wrong is not None:
            print(f"Error: {wrong}", file=sys.stderr)
            return 2
        print(f"A fault of ours: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    _print(answer, as_json=options.json)
    return 0


def _summary(options: argparse.Namespace) -> list[dict[str, Any]]:
    store = Store(Records(options.home))
    _require_known("architecture", [options.architecture] if options.architecture else None, {*catalog.ARCHITECTURES})
    _require_known("method", options.methods, {*catalog.METHODS, *store.values("method")})
    _require_known("task", options.tasks, {*catalog.TASKS, *store.values("dataset")})
    rows = store.results(
        source=options.source,
        architecture=options.architecture,
        transfer=options.transfer,
        methods=options.methods,
        datasets=options.tasks,
        sparsity=tuple(options.sparsity),
    )
    if options.without_lottery:
        rows = rows[~labels.is_hidden_lottery_ticket(rows)]
    if rows.empty and options.source != "measured":
        _say_notes(["No published rows for these choices."])
    _say_disputed(rows)
    measure = measures.difference_to_dense if options.per_task else measures.summary
    return _plain(measure(rows, options.accuracy))


def _backbones(options: argparse.Namespace) -> list[dict[str, Any]]:
    from sparse_core.networks import backbones

    return [dataclasses.asdict(card) for card in backbones.available(options.home)]


def _datasets(options: argparse.Namespace) -> list[dict[str, Any]]:
    from sparse_core.datasets import datasets

    return [dataclasses.asdict(card) for card in datasets.available(options.home)]


def _runs(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = Store(Records(options.home)).results(source=options.source)
    _say_disputed(rows)
    return _plain(rows.drop(columns="spec"))


def _features(options: argparse.Namespace) -> dict[str, Any]:
    from sparse_core.transfer import running

    spec = ProbeSpec(options.backbone, options.dataset, precision=options.precision, engine=options.engine)
    backbone, dataset, spec = running.resolve(options.home, spec, _say)
    extracted = running.extract(options.home, backbone, dataset, spec, _say)
    _say_notes(extracted.notes)
    return {
        "train": len(extracted.train_labels),
        "test": len(extracted.test_labels),
        "dimensions": int(extracted.train.shape[1]),
        "seconds": extracted.seconds,
        "images_per_second": extracted.images_per_second,
        "cached": extracted.cached,
        "precision": options.precision,
        "engine": extracted.engine,
    }


def _probe(options: argparse.Namespace) -> dict[str, Any]:
    spec = ProbeSpec(
        options.backbone,
        options.dataset,
        settings=_settings(options, Hyperparameters()),
        sweep_lr=tuple(options.sweep_lr or ()),
        precision=options.precision,
        engine=options.engine,
    )
    return probe_answer(_transfer("probe", spec, options))


def _finetune(options: argparse.Namespace) -> dict[str, Any]:
    spec = FinetuneSpec(
        options.backbone,
        options.dataset,
        settings=_settings(options, Hyperparameters(learning_rate=full_learning_rate(options.dataset))),
        optimizer=options.optimizer,
        from_scratch=options.from_scratch,
        freeze_batch_norm=options.freeze_batch_norm,
        label_smoothing=options.label_smoothing,
        augment=not options.no_augmentation,
        precision=options.precision,
    )
    return finetune_answer(options.home, _transfer("finetune", spec, options))


def _settings(options: argparse.Namespace, defaults: Hyperparameters) -> Hyperparameters:
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(Hyperparameters)}
    return dataclasses.replace(defaults, **{name: value for name, value in given.items() if value is not None})


def _transfer(kind: str, spec: TransferSpec, options: argparse.Namespace) -> list[Record]:
    """Run the transfer's seeds, those that are there already excepted, and give all their records."""
    from sparse_core.jobs import runner
    from sparse_core.transfer import running

    if options.seeds < 1:
        raise InputError(f"--seeds takes the number of seeds, at least 1; got {options.seeds}.")
    seeds = tuple(range(options.seeds))
    if options.rerun:
        _, _, resolved = running.resolve(options.home, spec, _say)
        spec = first_free_replicate(resolved, seeds, Records(options.home).ids())
    given = runner.run(options.home, Job(kind, spec, seeds), _say)
    records = [Records(options.home).read(name) for name in given["runs"]]
    if given["found"]:
        print(f"{len(given['found'])} of {len(seeds)} runs were there already; --rerun repeats them.", file=sys.stderr)
    _say_notes(records[0].result["notes"])
    return records


def probe_answer(records: Sequence[Record]) -> dict[str, Any]:
    """What ``probe`` prints about its runs: each seed's accuracies, then mean and standard deviation (n − 1) of the best."""
    return {
        **_transfer_answer(records, ()),
        "seconds_features": records[0].result["seconds_features"],
        "seconds_training": records[0].result["seconds_training"],
        "protocol": records[0].result["protocol"],
    }


def finetune_answer(home: Path, records: Sequence[Record]) -> dict[str, Any]:
    """What ``finetune`` prints: as ``probe``, with the sparsity of the backbone's convolutions before and after, the weights
    that broke the mask in any run, and where each finetuned network lies (``checkpoint`` is the first's)."""
    results = [record.result for record in records]
    answer = _transfer_answer(records, ("sparsity_before", "sparsity_after", "mask_violations"))
    for run in answer["runs"]:
        run["checkpoint"] = str(finetuned.file(home, run["run_id"]))
    return {
        **answer,
        "sparsity_before": results[0]["sparsity_before"],
        "sparsity_after": results[0]["sparsity_after"],
        "mask_violations": sum(result["mask_violations"] for result in results),
        "checkpoint": answer["runs"][0]["checkpoint"],
        "seconds_training": sum(result["seconds_training"] for result in results),
        "protocol": results[0]["protocol"],
    }


def _transfer_answer(records: Sequence[Record], more: Sequence[str]) -> dict[str, Any]:
    """Metric, runs (with the fields ``more`` of each result) and the best accuracy's mean and standard deviation."""
    fields = ["learning_rate", *more]
    fields += [f"{name}_{when}" for name in ("accuracy", "top1", "mean_per_class") for when in ("best", "final")]
    best = np.array([record.result["accuracy_best"] for record in records])
    return {
        "metric": records[0].result["metric"],
        "runs": [
            {
                "seed": record.spec["seed"],
                "run_id": record.run_id,
                **{name: record.result[name] for name in fields},
            }
            for record in records
        ],
        "accuracy_mean": float(best.mean()),
        "accuracy_std": float(best.std(ddof=1)) if len(best) > 1 else None,
    }


def _inspect(options: argparse.Namespace) -> dict[str, Any]:
    from sparse_core.jobs import runner

    return runner.run(options.home, Job("inspect", InspectSpec(options.path, options.architecture)), _say)


def _import(options: argparse.Namespace) -> dict[str, Any]:
    from sparse_core.jobs import runner

    spec = ImportSpec(
        options.path,
        options.name,
        architecture=options.architecture,
        method=options.method,
        sparsity=options.sparsity,
        upstream=options.upstream,
        origin=options.path,
    )
    return runner.run(options.home, Job("import", spec), _say)


def _speedup(options: argparse.Namespace) -> list[dict[str, Any]]:
    from sparse_core.jobs import runner
    from sparse_core.speed import measurements

    spec = SpeedupSpec(
        backbone=options.backbone,
        architecture=options.architecture,
        sparsity=options.sparsity,
        distribution=options.distribution,
        densities_of=options.densities_of,
        engines=tuple(_words(options.engines)),
        batch_sizes=tuple(_whole_numbers("--batch-sizes", options.batch_sizes)),
        threads=options.threads,
        mode=options.mode,
        dataset=options.dataset,
        rounds=options.rounds,
        epochs=options.epochs,
    )
    record = runner.run(options.home, Job("speedup", spec), _say)
    _say_notes(
        [*record["problems"], f"All samples are kept in {measurements.folder(options.home) / record['id']}.json."]
    )
    if record["timing_only"]:
        _say_notes(["The mask was made for timing only; it says nothing of accuracy."])
    for line in record["lines"]:
        if not line["reliable"]:
            _say_notes(
                [f"{line['engine']}, batch {line['batch_size']}: unreliable, the machine was busy or times spread."]
            )
    return [
        {name: value for name, value in line.items() if name not in ("samples", "layers")} for line in record["lines"]
    ]


def _words(text: str) -> list[str]:
    return [word for word in text.replace(",", " ").split() if word]


def _whole_numbers(flag: str, text: str) -> list[int]:
    try:
        return [int(word) for word in _words(text)]
    except ValueError as error:
        raise InputError(f"{flag} takes whole numbers such as 1,64; got '{text}'.") from error


def _rebuild(options: argparse.Namespace) -> dict[str, Any]:
    records = Records(options.home)
    return {"rows": rebuild(records), "cache": str(default_database(records))}


def _export(options: argparse.Namespace) -> dict[str, Any]:
    if options.run:
        return _export_network(options.home, options.run, options.path)
    store = Store(Records(options.home))
    rows = store.export(options.path)
    _say_disputed(store.results())
    return {"rows": rows, "path": str(options.path)}


def _export_network(home: Path, run_id: str, target: Path) -> dict[str, Any]:
    """Copy a finetuned network to ``target``, as safetensors or made into ONNX, by the target's ending."""
    Records(home).read(run_id)
    if target.suffix not in (".safetensors", ".onnx"):
        raise InputError(f"Expected a file ending in .safetensors or .onnx, got '{target.name}'.")
    source = finetuned.export_onnx(home, run_id) if target.suffix == ".onnx" else finetuned.require(home, run_id)
    with atomic_file(target) as temporary:
        shutil.copyfile(source, temporary)
    return {"run_id": run_id, "path": str(target)}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}. '{self.prog} --help' lists what can be said.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m sparse_core", description="Which sparse CNN backbone should I transfer to my task?"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)

    summary = _verb(verbs, "summary", _summary, "mean relative error increase over dense, a row a sparse backbone")
    summary.add_argument("--architecture", help="such as resnet50; all by default")
    summary.add_argument("--transfer", choices=list(catalog.TRANSFERS), help="both by default")
    summary.add_argument("--source", choices=["published", "measured", "all"], default="all")
    summary.add_argument("--accuracy", choices=list(measures.ACCURACIES), default="best", help="over epochs, or final")
    summary.add_argument("--methods", nargs="+", help="such as AC/DC WoodFisher; all by default")
    summary.add_argument("--tasks", nargs="+", help="such as cifar10 pets; all by default")
    summary.add_argument(
        "--sparsity", type=float, nargs=2, default=(0.0, 1.0), metavar=("FROM", "TO"), help="of 1, both included"
    )
    summary.add_argument(
        "--without-lottery", action="store_true", help="leave LTH-T out under linear, as the study does"
    )
    summary.add_argument("--per-task", action="store_true", help="accuracy and difference to dense, a row a task")

    _verb(verbs, "backbones", _backbones, "the backbones there are")
    _verb(verbs, "datasets", _datasets, "the datasets there are")
    runs = _verb(verbs, "runs", _runs, "the runs there are")
    runs.add_argument("--source", choices=["published", "measured", "all"], default="measured")

    features = _verb(verbs, "features", _features, "extract and cache a backbone's features of a dataset")
    _add_backbone_and_dataset(features)
    _add_feature_options(features)

    probe = _verb(verbs, "probe", _probe, "train a linear classifier on a backbone's features")
    _add_transfer(probe, Hyperparameters(), seeds=5)
    _add_feature_options(probe)
    probe.add_argument("--sweep-lr", type=float, nargs="+", metavar="LR", help="choose among these on validation data")

    finetune = _verb(verbs, "finetune", _finetune, "train every weight that was not pruned, under the fixed mask")
    _add_transfer(finetune, Hyperparameters(learning_rate=FULL_LEARNING_RATE), seeds=1)
    finetune.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd", help="default sgd, the study's")
    finetune.add_argument("--from-scratch", action="store_true", help="draw new weights and keep only the mask")
    finetune.add_argument("--freeze-batch-norm", action="store_true", help="keep the upstream BatchNorm as it is")
    finetune.add_argument("--label-smoothing", type=float, default=0.0, help="in [0, 1), default 0")
    finetune.add_argument(
        "--no-augmentation", action="store_true", help="train on whole pictures, without crops and flips"
    )
    finetune.add_argument(
        "--precision",
        choices=("auto", *PRECISIONS),
        default="auto",
        help="of training; auto is bf16 where it is native",
    )

    inspect = _verb(verbs, "inspect", _inspect, "say what a checkpoint file is, layer by layer")
    inspect.add_argument("path", help="a .pth, .pt or .safetensors file")
    inspect.add_argument("--architecture", default="", help="where the file leaves it open")

    import_ = _verb(verbs, "import", _import, "put a checkpoint file into the library, as a backbone")
    import_.add_argument("path", help="a .pth, .pt or .safetensors file")
    import_.add_argument("--name", required=True, help="the backbone's name from now on")
    import_.add_argument("--architecture", default="", help="where the file leaves it open")
    import_.add_argument("--method", default="", help="how it was pruned, such as AC/DC")
    import_.add_argument("--sparsity", type=float, help="nominal, 0..1; measured where not given")
    import_.add_argument("--upstream", default="", help="what it was trained on; told from the file where not given")

    speedup = _verb(verbs, "speedup", _speedup, "measure how much faster a sparse network is than the dense one, here")
    speedup.add_argument("--backbone", default="", help="a sparse backbone; or an architecture and a sparsity")
    speedup.add_argument("--architecture", default="", help="such as resnet50, with a mask made for timing only")
    speedup.add_argument("--sparsity", type=float, default=0.0, help="of that mask, in (0, 1)")
    speedup.add_argument(
        "--distribution", choices=DISTRIBUTIONS, default="uniform", help="of that mask (default uniform)"
    )
    speedup.add_argument("--densities-of", default="", help="or that mask has the layer densities of this backbone")
    speedup.add_argument("--engines", default="", help="such as deepsparse,onnxruntime,torch; all there are by default")
    speedup.add_argument("--batch-sizes", default="1,64", help="default 1,64")
    speedup.add_argument("--threads", type=int, default=0, help="default: all cores")
    speedup.add_argument(
        "--mode", choices=SPEEDUP_MODES, default="inference", help="training is online linear training"
    )
    speedup.add_argument("--dataset", default="", help="for the mode training")
    speedup.add_argument("--rounds", type=int, default=10, help="pairs of dense and sparse, at least 3 (default 10)")
    speedup.add_argument("--epochs", type=int, default=1, help="of the mode training (default 1)")

    _verb(verbs, "rebuild", _rebuild, "make the dashboard's cache again from the published tables and the run records")
    export = _verb(verbs, "export", _export, "write all results as one file, or one run's finetuned network")
    export.add_argument("path", type=Path, help="results: .parquet or .csv; a network: .safetensors or .onnx")
    export.add_argument("--run", default="", help="the run whose finetuned network is written")
    return parser


def _verb(verbs: Any, name: str, function: Any, words: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=words, description=words)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(verb_function=function)
    return parser


def _add_backbone_and_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", required=True, help="a name that 'backbones' lists")
    parser.add_argument("--dataset", required=True, help="a name that 'datasets' lists, a folder or a Parquet file")


def _add_feature_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the features (default fp32)")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="auto",
        help="of the features; auto: the fastest that is exact enough, as measured here once; "
        "torch for fewer than 5,000 pictures where that was not measured yet",
    )


def _add_transfer(parser: argparse.ArgumentParser, defaults: Hyperparameters, seeds: int) -> None:
    _add_backbone_and_dataset(parser)
    parser.add_argument("--seeds", type=int, default=seeds, help=f"how many seeds, from 0 up (default {seeds})")
    for field in dataclasses.fields(Hyperparameters):
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(flag, type=type(field.default), help=f"default {getattr(defaults, field.name)}")
    parser.add_argument("--rerun", action="store_true", help="train again even where the same runs are there")


def _say(event: dict[str, Any]) -> None:
    """Progress in words on stderr, one line that is written over where it is a terminal."""
    if not sys.stderr.isatty():
        return
    left = f", about {event['seconds_left']:.0f} s left" if event["seconds_left"] is not None else ""
    count = f" {event['done']:,} of {event['total']:,}" if event["total"] else ""
    end = "\n" if event["total"] and event["done"] == event["total"] else "\r"
    print(f"\033[K{event['stage']}{count}{left}", end=end, file=sys.stderr, flush=True)


def _require_known(kind: str, names: Sequence[str] | None, known: set[str]) -> None:
    for name in names or ():
        if name not in known:
            raise unknown_name(kind, name, known)


def _say_disputed(rows: pd.DataFrame) -> None:
    if labels.has_disputed_rows(rows):
        _say_notes([labels.RIGL_NOTE])


def _say_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(frame.to_json(orient="records", date_format="iso", double_precision=15))


def _print(answer: Any, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_finite(answer), allow_nan=False))
    elif isinstance(answer, list):
        print(pd.DataFrame(answer).to_string(index=False) if answer else "Nothing yet.")
    else:
        print(pd.Series({name: value for name, value in answer.items() if name != "runs"}, dtype=object).to_string())
        if isinstance(answer.get("runs"), list):
            print(pd.DataFrame(answer["runs"]).to_string(index=False))


def _finite(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
