"""The command line: ``sparse-transfer VERB … --json``; in a clone also ``python -m sparse_core VERB … --json``.

With ``--json``, stdout holds one JSON document; messages go to stderr. Exit codes: 0 done, 2 the user's input is wrong
(one line, no traceback), 1 an internal error, 130 interrupted, 141 the reader of stdout closed it. The dashboard may run at the
same time: the command line never opens its cache.
"""

import argparse
import dataclasses
import importlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sparse_core import catalog, decision_verbs, linux, sweep_verb
from sparse_core.errors import InputError, as_input_error, unknown_name
from sparse_core.jobs import kinds
from sparse_core.jobs.kinds import KINDS, Job
from sparse_core.networks import finetuned, library, reader_process
from sparse_core.paths import atomic_file, default_home
from sparse_core.results import measures
from sparse_core.results.filters import RunFilter
from sparse_core.results.records import Records
from sparse_core.results.store import SOURCES, Store, default_database, rebuild
from sparse_core.specs.checkpoints import EXPORT_FORMS, ExportSpec
from sparse_core.specs.checks import require_known
from sparse_core.specs.identity import AnyRun, first_free_replicate
from sparse_core.specs.options import PROGRAM, Parser, add_arguments, from_arguments
from sparse_core.specs.options import names as option_names
from sparse_core.specs.progress import Progress
from sparse_core.specs.sparsify import DETECTOR_SETTINGS, SparsifySpec
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.specs.transfer import ProbeSpec, TransferSpec
from sparse_core.views import footnotes, labels, report, speed_tables
from sparse_core.views.answers import finetune_answer, print_answer, probe_answer

# Of the measured time in the answer of ``export``.
MEASURED = ["mode", "engine", "precision", "batch_size", "threads", "machine", "milliseconds_per_image"]
MEASURED += ["dense_milliseconds_per_image", "ratio", "ratio_low", "ratio_high", "reliable"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    linux.limit_threads()  # before torch is loaded
    try:
        options = _parser().parse_args(arguments)
        options.home = default_home()
        answer = options.verb_function(options)
    except KeyboardInterrupt:
        print("Interrupted. Finished runs and cached features were kept.", file=sys.stderr)
        return 130
    except Exception as error:
        logging.getLogger(__name__).debug("traceback", exc_info=True)
        wrong = as_input_error(error)
        if wrong is not None:
            print(f"Error: {wrong}", file=sys.stderr)
            return 2
        print(f"Internal error: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if not print_answer(answer, as_json=options.json):
        return 141  # 128 + SIGPIPE, as a shell reports it
    return 2 if isinstance(answer, dict) and answer.get("failures") else 0


def _summary(options: argparse.Namespace) -> list[dict[str, Any]]:
    store = Store(Records(options.home))
    architectures = {*catalog.ARCHITECTURES, *store.values("architecture")}
    for kind, names, known in (
        ("architecture", [options.architecture] if options.architecture else [], architectures),
        ("method", options.methods, {*catalog.METHODS, *store.values("method")}),
        ("task", options.tasks, {*catalog.TASKS, *store.values("dataset")}),
    ):
        for name in names:
            require_known(kind, name, known)
    filters: dict[str, Any] = {name: getattr(options, name) for name in ("architecture", "transfer")}
    filters |= {"methods": options.methods or None, "datasets": options.tasks or None}
    filters |= {"sparsity": tuple(options.sparsity)}
    rows = _of_sources(store.filtered(RunFilter(tags=tuple(options.tags))), options.source, filters)
    metric = options.metric or ("accuracy" if options.architecture not in catalog.DETECTORS else catalog.MAP)
    rows = measures.measured_in(rows, metric)
    if options.without_lottery:
        rows = rows[~measures.is_hidden_lottery_ticket(rows)]
    if rows.empty and {"published", "all"} & set(options.source):
        _note("No paper results for these choices.")
    _note_on(rows)
    rows = rows if options.separate else measures.joined(rows)
    table = (measures.difference_to_dense if options.per_task else measures.summary)(rows, options.accuracy)
    names = labels.cell_names if options.per_task else labels.point_names
    return _as_rows(_only(options.points, table, names(table)) if options.points else table)


def _of_sources(store: Store, sources: list[str], filters: dict[str, Any]) -> pd.DataFrame:
    """The rows of these sources, each once."""
    named = ["all"] if "all" in sources else dict.fromkeys(sources)
    return pd.concat([store.results(source=source, **filters) for source in named], ignore_index=True)


def _only(points: list[str], table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The rows that have these ``names``, one a row."""
    for point in points:
        if point not in names:
            raise unknown_name("point", point, names)
    return table[[name in points for name in names]]


def _backbones(options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.fetch:
        from sparse_core.networks import backbones

        return [dataclasses.asdict(backbones.load(options.home, options.fetch).card)]
    return [dataclasses.asdict(card) for card in library.available(options.home)]


def _datasets(options: argparse.Namespace) -> list[dict[str, Any]]:
    from sparse_core.datasets import catalogue

    return [
        dataclasses.asdict(card) for card in (*catalogue.available(options.home), *catalogue.with_boxes(options.home))
    ]


def _runs(options: argparse.Namespace) -> list[dict[str, Any]]:
    store = Store(Records(options.home))
    kept = RunFilter(
        tuple(options.architecture),
        tuple(filter(None, [options.transfer])),
        tuple(options.methods),
        tuple(options.tasks),
        tags=tuple(options.tags),
        keep_dense=False,
    )
    rows = store.filtered(kept).results(source=options.source, archived=options.archived or bool(options.run))
    if options.run:
        unknown = next((name for name in options.run if name not in set(rows["run_id"])), None)
        if unknown:
            raise unknown_name("run", unknown, rows["run_id"])
        rows = rows[rows["run_id"].isin(options.run)]
    _note_on(rows)
    return _as_rows(rows.drop(columns="spec"))


def _features(options: argparse.Namespace) -> dict[str, Any]:
    from sparse_core.transfer import features
    from sparse_core.transfer.runs import resolve

    spec = from_arguments(ProbeSpec, options)
    backbone, dataset, spec = resolve(options.home, spec, _show_progress)
    extracted = features.extract(
        options.home, backbone, dataset, precision=spec.precision, engine=spec.engine, on_progress=_show_progress
    )
    _note(*extracted.notes)
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


def _transfer(options: argparse.Namespace) -> dict[str, Any]:
    """Run the transfer with each seed that has no record yet; returns what all seeds gave."""
    kind = (
        "finetune_detector"
        if options.verb == "finetune" and library.is_detector(options.home, options.backbone)
        else options.verb
    )
    spec: AnyRun = from_arguments(KINDS[kind].spec, options)
    _refuse_other_options(options, kind)
    if options.seeds < 1:
        raise InputError(f"--seeds takes the number of seeds, at least 1; got {options.seeds}.")
    seeds = tuple(range(options.seeds)) if options.only_seed is None else (options.only_seed,)
    records = Records(options.home)
    if options.rerun:
        resolve = _resolver(kind)
        _, _, resolved = resolve(options.home, spec, _show_progress)
        spec = first_free_replicate(resolved, seeds, records.ids())
    outcome = kinds.run(options.home, Job(kind, spec, seeds), _show_progress)
    runs = [records.read(name) for name in outcome["runs"]]
    found = len(outcome["found"])
    if found:
        print(f"{found} of {len(seeds)} runs were there already; --rerun repeats them.", file=sys.stderr)
    _note(*runs[0].result["notes"])
    return probe_answer(runs) if options.verb == "probe" else finetune_answer(options.home, runs)


def _refuse_other_options(options: argparse.Namespace, kind: str) -> None:
    """Raise InputError for an option of ``finetune`` that this kind of work does not have."""
    others = set(option_names(KINDS[options.verb].spec)) - set(option_names(KINDS[kind].spec))
    given = [name for name in sorted(others) if getattr(options, name, None) is not None]
    if given:
        raise InputError(f"--{given[0].replace('_', '-')} is no option of a detector's finetuning. Leave it out.")


def _resolver(kind: str) -> Callable[..., tuple[Any, Any, Any]]:
    """The function that resolves the specs of this kind of work; only now is torch loaded."""
    module = KINDS[kind].function.partition(":")[0]
    return importlib.import_module(module).resolve


def _read_file(options: argparse.Namespace) -> dict[str, Any]:
    """Inspect a checkpoint file, or import it."""
    reader_process.start()  # it loads torch while this process does, too
    origin = {"origin": options.path} if options.verb == "import" else {}
    spec: Any = from_arguments(KINDS[options.verb].spec, options, **origin)
    return kinds.run(options.home, Job(options.verb, spec), _show_progress)


def _sparsify(options: argparse.Namespace) -> dict[str, Any]:
    """Make one sparse backbone, or find it in the library."""
    usual = DETECTOR_SETTINGS if library.is_detector(options.home, options.backbone) else {}
    usual = {name: value for name, value in usual.items() if getattr(options, name) is None}
    spec = from_arguments(SparsifySpec, options, **usual)
    outcome = kinds.run(options.home, Job("sparsify", spec, (options.seed,)), _show_progress)
    if outcome["found"]:
        _note("The same network, seed included, was made before.")
    (made,) = outcome["backbones"]
    _note(*made.pop("notes"))
    return made


def _speedup(options: argparse.Namespace) -> list[dict[str, Any]]:
    from sparse_core.speed import measurements

    record = kinds.run(options.home, Job("speedup", from_arguments(SpeedupSpec, options)), _show_progress)
    kept = measurements.folder(options.home) / f"{record['id']}.json"
    _note(*record["problems"], f"All samples are kept in {kept}.")
    if record["timing_only"]:
        _note("Random weights (timing only): this says nothing about accuracy.")
    for line in record["lines"]:
        if not line["reliable"]:
            _note(f"{line['engine']}, batch {line['batch_size']}: unreliable, the machine was busy or times spread.")
    if record.get("form"):
        _note("Structured: its compact form was timed, without the removed filters.")
    hidden = ("samples", "layers")
    return [{name: value for name, value in line.items() if name not in hidden} for line in record["lines"]]


def _report(options: argparse.Namespace) -> dict[str, Any]:
    """Write views of the dashboard, given by their links, to one HTML file."""
    if len(options.note) > len(options.links):
        raise InputError(
            f"Expected at most one --note for each link; got {len(options.note)} for {len(options.links)}."
        )
    notes = [*options.note, *[""] * (len(options.links) - len(options.note))]
    views = [report.View(link, note) for link, note in zip(options.links, notes, strict=True)]
    about = report.About(options.title or report.About.title, options.hypothesis, options.conclusion)
    return {
        "path": str(options.out),
        "views": len(views),
        "bytes": report.write(options.home, views, options.out, about),
    }


def _rebuild(options: argparse.Namespace) -> dict[str, Any]:
    records = Records(options.home)
    return {"rows": rebuild(records), "cache": str(default_database(records))}


def _export(options: argparse.Namespace) -> dict[str, Any]:
    if options.run and options.backbone:
        raise InputError("Expected either --run or --backbone; got both.")
    if options.run:
        return _export_network(options.home, options.run, options.path)
    if options.backbone:
        return _export_backbone(options)
    if options.form:
        raise InputError("--form is of a backbone; name it with --backbone.")
    store = Store(Records(options.home))
    rows = store.export(options.path)
    _note_on(store.results())
    return {"rows": rows, "path": str(options.path)}


def _export_network(home: Path, run_id: str, target: Path) -> dict[str, Any]:
    """Write a finetuned network to ``target``, as safetensors or ONNX by the file's suffix."""
    Records(home).read(run_id)
    if target.suffix not in (".safetensors", ".onnx"):
        raise InputError(f"Expected a file ending in .safetensors or .onnx, got '{target.name}'.")
    source = finetuned.require(home, run_id)
    if target.suffix == ".onnx":
        source = Path(kinds.run(home, Job("export", ExportSpec(run_id)), lambda _: None)["path"])
    with atomic_file(target) as temporary:
        shutil.copyfile(source, temporary)
    return {"run_id": run_id, "path": str(target)}


def _export_backbone(options: argparse.Namespace) -> dict[str, Any]:
    """Write a backbone to a file; returns it with the bytes of all its forms and its fastest ``measured`` time, None without."""
    spec = ExportSpec(backbone=options.backbone, path=str(options.path), form=options.form or "plain")
    written = kinds.run(options.home, Job("export", spec), _show_progress)
    sizes = ", ".join(f"{label} {size:,}" for label, size in written["bytes"].items())
    _note(f"Bytes as safetensors: {sizes} (zipped: {written['zip']}).")
    fastest = speed_tables.fastest(options.home, written["hash"], {})
    if fastest is None:
        _note("Measured time: none yet; 'speedup' measures it.")
        return {**written, "measured": None}
    _note(f"Measured time: {fastest.milliseconds_per_image:.2f} ms/image, {speed_tables.result(fastest)}.")
    return {**written, "measured": {name: getattr(fastest, name) for name in MEASURED}}


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=" ".join(PROGRAM), description="Which sparse CNN backbone should I transfer to my task?")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    sources = ", ".join([*SOURCES, "all"])

    summary = _verb(verbs, "summary", _summary, "mean relative error increase over dense, by sparse network")
    summary.add_argument("--architecture", help="such as resnet50; all by default")
    summary.add_argument("--transfer", choices=list(catalog.TRANSFERS), help="both by default")
    summary.add_argument("--source", nargs="+", default=["all"], help=f"{sources}, or imported ones (default all)")
    summary.add_argument(
        "--metric",
        choices=list(catalog.RESULT_METRICS),
        help=f"default accuracy, of a detector {catalog.MAP}; they are never mixed, and error is 1 − metric",
    )
    summary.add_argument("--accuracy", choices=list(measures.ACCURACIES), default="best", help="over epochs, or final")
    summary.add_argument("--methods", nargs="+", default=[], help="such as AC/DC WoodFisher; all by default")
    summary.add_argument("--tasks", nargs="+", default=[], help="such as cifar10 pets; all by default")
    summary.add_argument(
        "--sparsity", type=float, nargs=2, default=(0.0, 1.0), metavar=("FROM", "TO"), help="in [0, 1], both included"
    )
    summary.add_argument(
        "--without-lottery", action="store_true", help="omit LTH-T under linear transfer, as the paper does"
    )
    summary.add_argument(
        "--separate", action="store_true", help="do not join networks that differ in upstream seed only"
    )
    summary.add_argument("--tags", nargs="+", default=[], help="runs with one of these tags, and dense ones")
    summary.add_argument("--per-task", action="store_true", help="accuracy and difference to dense, by task")
    named = "these rows only, as links name them: 'Full: STR 90 %%', by task 'STR 90 %% on Pets'"
    summary.add_argument("--points", nargs="+", default=[], metavar="POINT", help=named)

    listed = _verb(verbs, "backbones", _backbones, "list the backbones")
    listed.add_argument(
        "--fetch", default="", metavar="NAME", help="download one, such as resnext50_32x4d or timm/resnet50d"
    )
    _verb(verbs, "datasets", _datasets, "list the datasets")
    runs = _verb(verbs, "runs", _runs, "list the runs")
    runs.add_argument("--source", default="measured", help=f"{sources}, or an imported one (default measured)")
    runs.add_argument("--architecture", nargs="+", default=[], help="such as resnet50; all by default")
    runs.add_argument("--transfer", choices=list(catalog.TRANSFERS), help="both by default")
    runs.add_argument("--methods", nargs="+", default=[], help="such as AC/DC WoodFisher; all by default")
    runs.add_argument("--tasks", nargs="+", default=[], help="such as cifar10 pets; all by default")
    runs.add_argument("--tags", nargs="+", default=[], help="runs with one of these tags; all by default")
    runs.add_argument("--run", nargs="+", default=[], metavar="ID", help="these runs, archived ones included")
    runs.add_argument("--archived", action="store_true", help="archived runs, too")

    features = _verb(verbs, "features", _features, "extract and cache a backbone's features of a dataset")
    add_arguments(features, ProbeSpec, only=("backbone", "dataset", "precision", "engine", "image_size"))
    _transfer_verb(verbs, "probe", "train a linear classifier on a backbone's features")
    _transfer_verb(verbs, "finetune", "train all weights that are not pruned, under the fixed mask")

    sparsify = _verb(verbs, "sparsify", _sparsify, "make a sparse backbone with a pruning method")
    add_arguments(sparsify, SparsifySpec)
    sparsify.add_argument("--seed", type=int, default=0, help="of weights, order and crops (default 0)")

    sweep = _verb(
        verbs, "sweep", sweep_verb.sweep, "do the missing runs of a YAML file, with what they need before them"
    )
    sweep_verb.add_arguments(sweep)

    for name, function, description in (
        ("inspect", _read_file, "describe a checkpoint file, layer by layer"),
        ("import", _read_file, "import a checkpoint file into the library, as a backbone"),
        ("speedup", _speedup, "measure the speedup of a sparse network over the dense one"),
    ):
        add_arguments(_verb(verbs, name, function, description), KINDS[name].spec)

    for name, (decide, description, add) in decision_verbs.VERBS.items():
        add(_verb(verbs, name, decide, description))

    reported = _verb(verbs, "report", _report, "views of the dashboard as one HTML file that needs no network")
    reported.add_argument("links", nargs="+", metavar="LINK", help="as Share gives it, such as '/tasks?transfer=Full'")
    reported.add_argument("--out", type=Path, required=True, metavar="FILE", help="ending in .html")
    reported.add_argument("--note", nargs="+", default=[], help="on each view, in the order of the links")
    for name in ("title", *report.FIELDS):
        reported.add_argument(f"--{name}", default="", help="of the report")

    _verb(verbs, "rebuild", _rebuild, "rebuild the dashboard's cache from the published tables and the run records")
    export = _verb(verbs, "export", _export, "write all results to one file, or a backbone, or the network of one run")
    export.add_argument("path", type=Path, help="results: .parquet or .csv; a network: .safetensors or .onnx")
    export.add_argument("--run", default="", help="the run id of the finetuned network")
    export.add_argument("--backbone", default="", help="the name of a backbone")
    forms = (
        "of the backbone: plain for the public network (default), packed for storage, compact without pruned filters"
    )
    export.add_argument("--form", choices=EXPORT_FORMS, help=forms)
    return parser


def _transfer_verb(verbs: Any, name: str, description: str) -> None:
    parser = _verb(verbs, name, _transfer, description)
    spec: type[TransferSpec] = KINDS[name].spec
    add_arguments(parser, spec)
    usual = spec.usual_seeds
    parser.add_argument("--seeds", type=int, default=usual, help=f"number of seeds, counted from 0 (default {usual})")
    parser.add_argument("--only-seed", type=int, metavar="SEED", help="this seed alone, whatever --seeds says")
    parser.add_argument("--rerun", action="store_true", help="repeat runs that exist already")


def _verb(verbs: Any, name: str, function: Any, description: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=description, description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(verb_function=function)
    return parser


def _show_progress(progress: Progress) -> None:
    """Show progress on stderr as one line that is overwritten, if stderr is a terminal."""
    if not sys.stderr.isatty():
        return
    left = f", about {progress.seconds_left:.0f} s left" if progress.seconds_left is not None else ""
    end = "\n" if progress.total and progress.done == progress.total else "\r"
    print(f"\033[K{progress.description}{left}", end=end, file=sys.stderr, flush=True)


def _note_on(rows: pd.DataFrame) -> None:
    """What must be said where these results are shown."""
    _note(*footnotes.result_notes(rows))


def _note(*notes: str) -> None:
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)


def _as_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(frame.to_json(orient="records", date_format="iso", double_precision=15))
