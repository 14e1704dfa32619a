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
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from sparse_core import catalog, measures
from sparse_core.errors import InputError, unknown_name
from sparse_core.records import Record, Records
from sparse_core.spec import Hyperparameters, Job, ProbeSpec, first_free_replicate
from sparse_core.store import Store, default_database, rebuild


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    try:
        options = _parser().parse_args(arguments)
        answer = options.verb_function(options)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. Finished runs and cached features were kept.", file=sys.stderr)
        return 130
    except Exception as error:
        logging.getLogger(__name__).debug("fault", exc_info=True)
        print(f"A fault of ours: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    _print(answer, as_json=options.json)
    return 0


def _summary(options: argparse.Namespace) -> list[dict[str, Any]]:
    architectures = Store().values("architecture")
    if options.architecture and options.architecture not in architectures:
        raise unknown_name("architecture", options.architecture, architectures)
    rows = Store().results(source=options.source, architecture=options.architecture, transfer=options.transfer)
    return _plain(measures.summary(rows, options.accuracy))


def _backbones(options: argparse.Namespace) -> list[dict[str, Any]]:
    from sparse_core import backbones

    return [dataclasses.asdict(card) for card in backbones.available()]


def _datasets(options: argparse.Namespace) -> list[dict[str, Any]]:
    from sparse_core import datasets

    return [dataclasses.asdict(card) for card in datasets.available()]


def _runs(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = Store().results(source=options.source)
    return _plain(rows.drop(columns="spec"))


def _features(options: argparse.Namespace) -> dict[str, Any]:
    from sparse_core import runner

    spec = ProbeSpec(options.backbone, options.dataset, precision=options.precision)
    backbone, dataset, spec = runner.resolve(spec, _say)
    extracted = runner.extract(backbone, dataset, spec, _say)
    _say_notes(extracted.notes)
    return {
        "train": len(extracted.train_labels),
        "test": len(extracted.test_labels),
        "dimensions": int(extracted.train.shape[1]),
        "seconds": extracted.seconds,
        "images_per_second": extracted.images_per_second,
        "cached": extracted.cached,
        "precision": options.precision,
    }


def _probe(options: argparse.Namespace) -> dict[str, Any]:
    from sparse_core import runner

    settings = Hyperparameters(
        **{field.name: getattr(options, field.name) for field in dataclasses.fields(Hyperparameters)}
    )
    if options.seeds < 1:
        raise InputError(f"--seeds takes the number of seeds, at least 1; got {options.seeds}.")
    spec = ProbeSpec(
        options.backbone,
        options.dataset,
        settings=settings,
        sweep_lr=tuple(options.sweep_lr or ()),
        precision=options.precision,
    )
    seeds = tuple(range(options.seeds))
    if options.rerun:
        _, _, resolved = runner.resolve(spec, _say)
        spec = first_free_replicate(resolved, seeds, Records().ids())
    given = runner.run(Job("probe", spec, seeds), _say)
    records = [Records().read(name) for name in given["runs"]]
    if given["found"]:
        print(f"{len(given['found'])} of {len(seeds)} runs were there already; --rerun repeats them.", file=sys.stderr)
    _say_notes(records[0].result["notes"])
    return probe_answer(records)


def probe_answer(records: Sequence[Record]) -> dict[str, Any]:
    """What ``probe`` prints about its runs: each seed's accuracies, then mean and standard deviation (n − 1) of the best."""
    fields = ("accuracy", "top1", "mean_per_class")
    best = np.array([record.result["accuracy_best"] for record in records])
    return {
        "metric": records[0].result["metric"],
        "runs": [
            {
                "seed": record.spec["seed"],
                "run_id": record.run_id,
                "learning_rate": record.result["learning_rate"],
                **{f"{name}_{when}": record.result[f"{name}_{when}"] for name in fields for when in ("best", "final")},
            }
            for record in records
        ],
        "accuracy_mean": float(best.mean()),
        "accuracy_std": float(best.std(ddof=1)) if len(best) > 1 else None,
        "seconds_features": records[0].result["seconds_features"],
        "seconds_training": records[0].result["seconds_training"],
        "protocol": records[0].result["protocol"],
    }


def _rebuild(options: argparse.Namespace) -> dict[str, Any]:
    records = Records()
    return {"rows": rebuild(records), "cache": str(default_database(records))}


def _export(options: argparse.Namespace) -> dict[str, Any]:
    return {"rows": Store().export(options.path), "path": str(options.path)}


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

    _verb(verbs, "backbones", _backbones, "the backbones there are")
    _verb(verbs, "datasets", _datasets, "the datasets there are")
    runs = _verb(verbs, "runs", _runs, "the runs there are")
    runs.add_argument("--source", choices=["published", "measured", "all"], default="measured")

    features = _verb(verbs, "features", _features, "extract and cache a backbone's features of a dataset")
    _add_backbone_and_dataset(features)

    probe = _verb(verbs, "probe", _probe, "train a linear classifier on a backbone's features")
    _add_backbone_and_dataset(probe)
    probe.add_argument("--seeds", type=int, default=5, help="how many seeds, from 0 up (default 5)")
    for field in dataclasses.fields(Hyperparameters):
        flag = f"--{field.name.replace('_', '-')}"
        probe.add_argument(flag, type=type(field.default), default=field.default, help=f"default {field.default}")
    probe.add_argument("--sweep-lr", type=float, nargs="+", metavar="LR", help="choose among these on validation data")
    probe.add_argument("--rerun", action="store_true", help="train again even where the same runs are there")

    _verb(verbs, "rebuild", _rebuild, "make the dashboard's cache again from the published tables and the run records")
    export = _verb(verbs, "export", _export, "write all results as one file")
    export.add_argument("path", type=Path, help="a file ending in .parquet or .csv")
    return parser


def _verb(verbs: Any, name: str, function: Any, words: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=words, description=words)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(verb_function=function)
    return parser


def _add_backbone_and_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", required=True, help="a name that 'backbones' lists")
    parser.add_argument("--dataset", required=True, help="a name that 'datasets' lists, a folder or a Parquet file")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of the features")


def _say(event: dict[str, Any]) -> None:
    """Progress in words on stderr, one line that is written over where it is a terminal."""
    if not sys.stderr.isatty():
        return
    left = f", about {event['seconds_left']:.0f} s left" if event["seconds_left"] is not None else ""
    count = f" {event['done']:,} of {event['total']:,}" if event["total"] else ""
    end = "\n" if event["total"] and event["done"] == event["total"] else "\r"
    print(f"\033[K{event['stage']}{count}{left}", end=end, file=sys.stderr, flush=True)


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
