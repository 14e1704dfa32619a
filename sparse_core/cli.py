"""The command line: ``python -m sparse_core VERB … --json``.

With ``--json``, stdout holds one JSON document and words go to stderr. Exit codes: 0 done, 2 the user's input is wrong
(one line, no traceback), 1 an internal error, 130 interrupted. The dashboard may run meanwhile: the command line never
opens its cache.
"""

import argparse
import dataclasses
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparse_core import catalog
from sparse_core.errors import InputError, as_input_error, unknown_name
from sparse_core.jobs import kinds
from sparse_core.jobs.kinds import KINDS, Job
from sparse_core.networks import finetuned, library, reader_process
from sparse_core.paths import atomic_file, default_home, finite
from sparse_core.results import comparisons, measures
from sparse_core.results.records import Record, Records
from sparse_core.results.store import Store, default_database, rebuild
from sparse_core.specs.checkpoints import ExportSpec, ImportSpec, InspectSpec
from sparse_core.specs.identity import first_free_replicate
from sparse_core.specs.options import PROGRAM, Parser, add_arguments, from_arguments
from sparse_core.specs.progress import Progress
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.specs.transfer import ProbeSpec, TransferSpec
from sparse_core.views import footnotes


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
        print(f"Internal error: {type(error).__name__}: {error}", file=sys.stderr)
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
        rows = rows[~comparisons.is_hidden_lottery_ticket(rows)]
    if rows.empty and options.source != "measured":
        _say_notes(["No published rows for these choices."])
    _say_disputed(rows)
    measure = measures.difference_to_dense if options.per_task else measures.summary
    return _plain(measure(rows, options.accuracy))


def _backbones(options: argparse.Namespace) -> list[dict[str, Any]]:

    return [dataclasses.asdict(card) for card in library.available(options.home)]


def _datasets(options: argparse.Namespace) -> list[dict[str, Any]]:
    from sparse_core.datasets import catalogue

    return [dataclasses.asdict(card) for card in catalogue.available(options.home)]


def _runs(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = Store(Records(options.home)).results(source=options.source)
    _say_disputed(rows)
    return _plain(rows.drop(columns="spec"))


def _features(options: argparse.Namespace) -> dict[str, Any]:
    from sparse_core.transfer import features
    from sparse_core.transfer.resolve import resolve

    spec = from_arguments(ProbeSpec, options)
    backbone, dataset, spec = resolve(options.home, spec, _say)
    extracted = features.extract(
        options.home, backbone, dataset, precision=spec.precision, engine=spec.engine, on_progress=_say
    )
    _say_notes(extracted.notes)
    return {
        "train": len(extracted.train_labels),
        "test": len(extracted.test_labels),
        "dimensions": int(extracted.train.shape[1]),
        "seconds": extracted.seconds,
        "images_per_second": extracted.images_per_second,
        "cached": extracted.cached,
        "precision": spec.precision,
        "engine": extracted.engine,
    }


def _probe(options: argparse.Namespace) -> dict[str, Any]:
    return probe_answer(_transfer("probe", options))


def _finetune(options: argparse.Namespace) -> dict[str, Any]:
    return finetune_answer(options.home, _transfer("finetune", options))


def _transfer(kind: str, options: argparse.Namespace) -> list[Record]:
    """Run the transfer's seeds, those that are there already excepted, and give all their records."""
    spec: TransferSpec = from_arguments(KINDS[kind].spec, options)
    if options.seeds < 1:
        raise InputError(f"--seeds takes the number of seeds, at least 1; got {options.seeds}.")
    seeds = tuple(range(options.seeds))
    records = Records(options.home)
    if options.rerun:
        from sparse_core.transfer.resolve import resolve

        _, _, resolved = resolve(options.home, spec, _say)
        spec = first_free_replicate(resolved, seeds, records.ids())
    given = kinds.run(options.home, Job(kind, spec, seeds), _say)
    made = [records.read(name) for name in given["runs"]]
    if given["found"]:
        print(f"{len(given['found'])} of {len(seeds)} runs were there already; --rerun repeats them.", file=sys.stderr)
    _say_notes(made[0].result["notes"])
    return made


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
    reader_process.start()  # it loads torch while this process does, too
    return kinds.run(options.home, Job("inspect", from_arguments(InspectSpec, options)), _say)


def _import(options: argparse.Namespace) -> dict[str, Any]:
    reader_process.start()
    spec = from_arguments(ImportSpec, options, origin=options.path)
    return kinds.run(options.home, Job("import", spec), _say)


def _speedup(options: argparse.Namespace) -> list[dict[str, Any]]:
    from sparse_core.speed import measurements

    record = kinds.run(options.home, Job("speedup", from_arguments(SpeedupSpec, options)), _say)
    kept = measurements.folder(options.home) / f"{record['id']}.json"
    _say_notes([*record["problems"], f"All samples are kept in {kept}."])
    if record["timing_only"]:
        _say_notes(["Random weights (timing only): this says nothing of accuracy."])
    for line in record["lines"]:
        if not line["reliable"]:
            _say_notes(
                [f"{line['engine']}, batch {line['batch_size']}: unreliable, the machine was busy or times spread."]
            )
    return [
        {name: value for name, value in line.items() if name not in ("samples", "layers")} for line in record["lines"]
    ]


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
    source = finetuned.require(home, run_id)
    if target.suffix == ".onnx":
        source = Path(kinds.run(home, Job("export", ExportSpec(run_id)), lambda _: None)["path"])
    with atomic_file(target) as temporary:
        shutil.copyfile(source, temporary)
    return {"run_id": run_id, "path": str(target)}


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=" ".join(PROGRAM), description="Which sparse CNN backbone should I transfer to my task?")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    sources = ["published", "measured", "all"]

    summary = _verb(verbs, "summary", _summary, "mean relative error increase over dense, a row a sparse backbone")
    summary.add_argument("--architecture", help="such as resnet50; all by default")
    summary.add_argument("--transfer", choices=list(catalog.TRANSFERS), help="both by default")
    summary.add_argument("--source", choices=sources, default="all")
    summary.add_argument("--accuracy", choices=list(measures.ACCURACIES), default="best", help="over epochs, or final")
    summary.add_argument("--methods", nargs="+", help="such as AC/DC WoodFisher; all by default")
    summary.add_argument("--tasks", nargs="+", help="such as cifar10 pets; all by default")
    summary.add_argument(
        "--sparsity", type=float, nargs=2, default=(0.0, 1.0), metavar=("FROM", "TO"), help="in [0, 1], both included"
    )
    summary.add_argument(
        "--without-lottery", action="store_true", help="leave LTH-T out under linear, as the paper does"
    )
    summary.add_argument("--per-task", action="store_true", help="accuracy and difference to dense, a row a task")

    _verb(verbs, "backbones", _backbones, "list the backbones")
    _verb(verbs, "datasets", _datasets, "list the datasets")
    runs = _verb(verbs, "runs", _runs, "list the runs")
    runs.add_argument("--source", choices=sources, default="measured")

    features = _verb(verbs, "features", _features, "extract and cache a backbone's features of a dataset")
    add_arguments(features, ProbeSpec, only=("backbone", "dataset", "precision", "engine"))
    _transfer_verb(verbs, "probe", _probe, "train a linear classifier on a backbone's features")
    _transfer_verb(verbs, "finetune", _finetune, "train every weight that was not pruned, under the fixed mask")

    for name, function, spec, description in (
        ("inspect", _inspect, InspectSpec, "say what a checkpoint file is, layer by layer"),
        ("import", _import, ImportSpec, "import a checkpoint file into the library, as a backbone"),
        ("speedup", _speedup, SpeedupSpec, "measure how much faster a sparse network is than the dense one, here"),
    ):
        add_arguments(_verb(verbs, name, function, description), spec)

    _verb(verbs, "rebuild", _rebuild, "make the dashboard's cache again from the published tables and the run records")
    export = _verb(verbs, "export", _export, "write all results as one file, or one run's finetuned network")
    export.add_argument("path", type=Path, help="results: .parquet or .csv; a network: .safetensors or .onnx")
    export.add_argument("--run", default="", help="the run whose finetuned network is written")
    return parser


def _transfer_verb(verbs: Any, name: str, function: Any, description: str) -> None:
    parser = _verb(verbs, name, function, description)
    spec: type[TransferSpec] = KINDS[name].spec
    add_arguments(parser, spec)
    usual = spec.usual_seeds
    parser.add_argument("--seeds", type=int, default=usual, help=f"how many seeds, from 0 up (default {usual})")
    parser.add_argument("--rerun", action="store_true", help="train again even where the same runs are there")


def _verb(verbs: Any, name: str, function: Any, words: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=words, description=words)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(verb_function=function)
    return parser


def _say(progress: Progress) -> None:
    """Progress on stderr, one line that is written over, where it is a terminal."""
    if not sys.stderr.isatty():
        return
    left = f", about {progress.seconds_left:.0f} s left" if progress.seconds_left is not None else ""
    end = "\n" if progress.total and progress.done == progress.total else "\r"
    print(f"\033[K{progress.description}{left}", end=end, file=sys.stderr, flush=True)


def _require_known(kind: str, names: Sequence[str] | None, known: set[str]) -> None:
    for name in names or ():
        if name not in known:
            raise unknown_name(kind, name, known)


def _say_disputed(rows: pd.DataFrame) -> None:
    if comparisons.has_disputed_rows(rows):
        _say_notes([footnotes.RIGL_NOTE])


def _say_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(frame.to_json(orient="records", date_format="iso", double_precision=15))


def _print(answer: Any, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(finite(answer), allow_nan=False))
    elif isinstance(answer, list):
        print(pd.DataFrame(answer).to_string(index=False) if answer else "Nothing yet.")
    else:
        print(pd.Series({name: value for name, value in answer.items() if name != "runs"}, dtype=object).to_string())
        if isinstance(answer.get("runs"), list):
            print(pd.DataFrame(answer["runs"]).to_string(index=False))
