"""The verbs of the command line that help to decide: ``findings``, ``guide``, ``compare``, ``rank``, ``evaluate``,
``import-results``."""

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from sparse_core.catalog import TRANSFERS
from sparse_core.errors import InputError, unknown_name
from sparse_core.results import advice, findings, imported, measures, side_by_side
from sparse_core.results.records import Records
from sparse_core.results.store import COLUMNS, SOURCES, Store
from sparse_core.specs.evaluation import EvaluateSpec
from sparse_core.specs.options import add_arguments, from_arguments
from sparse_core.specs.ranking import RANKINGS
from sparse_core.speed import fastest, network_facts

PROMISED = ("id", "statement", "source", "verdict", "value", "low", "high", "rows")
MORE = ("unit", "n", "interval", "architecture", "note")


def _add_findings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", choices=SOURCES, help="whose rows to check; each source by default")
    parser.add_argument("--accuracy", choices=("best", "final"), default="best", help="over epochs, or final")


def _findings(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = Store(Records(options.home)).results(source=options.source or "all")
    sources = [options.source] if options.source else list(SOURCES)
    checked = [
        found
        for source in sources
        for found in findings.check(rows, source, options.accuracy, network_facts.known(options.home, source))
    ]
    return [{name: getattr(found, name) for name in (*PROMISED, *MORE)} for found in checked]


def _add_guide(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--transfer", choices=list(TRANSFERS), default="linear")
    parser.add_argument("--kind", choices=advice.KINDS, default="all", help="of task (default all)")
    parser.add_argument("--difficulty", type=float, help="of the task: dense full minus dense linear accuracy")
    parser.add_argument("--loss", type=float, default=0.01, help="of accuracy that is accepted (default 0.01)")
    parser.add_argument("--sparsity", type=float, help="at least, in [0, 1)")
    parser.add_argument("--file-size", type=float, metavar="BYTES", help="at most, stored sparse")
    parser.add_argument("--speedup", type=float, metavar="TIMES", help="over dense, at least, as measured by 'speedup'")
    parser.add_argument("--source", default="published", help="whose rows (default published)")
    parser.add_argument("--architecture", default="resnet50", help="default resnet50")


def _guide(options: argparse.Namespace) -> list[dict[str, Any]]:
    names = ("transfer", "kind", "difficulty", "loss", "sparsity", "file_size", "speedup", "source", "architecture")
    request = advice.Request(**{name: getattr(options, name) for name in names})
    speedups = fastest.measured(options.home, request.architecture)
    found = advice.advise(Store(Records(options.home)).results(source=request.source), request, speedups)
    for note in (found.summary, *found.notes):
        print(f"Note: {note}", file=sys.stderr)
    lines = []
    for answer in found.answers:
        ends = {"loss": answer.loss.mean, "loss_low": answer.loss.low, "loss_high": answer.loss.high}
        kept = ("tasks_for", "tasks_against", "tied_with", "rows", "file_size")
        line = {"method": answer.method, "sparsity": answer.sparsity, "verdict": answer.verdict, **ends}
        line["speedup"] = answer.speedup and dataclasses.asdict(answer.speedup)
        lines.append({**line, "relative_error_increase": answer.increase.mean} | {n: getattr(answer, n) for n in kept})
    return lines


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--architecture", default="resnet50", help="default resnet50")
    parser.add_argument("--transfer", choices=list(TRANSFERS), default="linear")
    parser.add_argument("--source", default="published", help="whose rows (default published)")
    parser.add_argument("--accuracy", choices=("best", "final"), default="best", help="over epochs, or final")
    how = "of a mean: Student's t, or a bootstrap over tasks (new) or seeds (these)"
    parser.add_argument("--interval", choices=side_by_side.INTERVALS, default="t", help=how)
    parser.add_argument("--upstream", help="the upstream data, as results name them; by default those with most runs")
    parser.add_argument(
        "--protocol", help="the training settings, as results name them; by default those with most runs"
    )
    named = "such as 'AC/DC 90' 'STR 90'; by default those at the sparsity that most methods have"
    parser.add_argument("--networks", nargs="+", default=[], metavar="METHOD SPARSITY", help=named)


def _compare(options: argparse.Namespace) -> dict[str, Any]:
    rows = Store(Records(options.home)).results(
        source=options.source, architecture=options.architecture, transfer=options.transfer
    )
    for name in ("upstream", "protocol"):
        asked, known = getattr(options, name), sorted(rows[name].unique())
        if asked is not None and asked not in known and known:
            raise unknown_name(name, asked, known)
        rows = rows if asked is None else rows[rows[name] == asked]
    there = side_by_side.series(rows)
    if not there:
        raise InputError(f"There are no results of {options.architecture} under {options.transfer} transfer.")
    rows = measures.joined(rows[(rows[measures.SERIES_KEY] == list(there[0])).all(axis=1)])
    known = side_by_side.networks(measures.difference_to_dense(rows, options.accuracy))
    if known.empty:
        raise InputError(
            f"No sparse {options.architecture} of these results has a dense baseline with errors, of the same upstream data, "
            "task and protocol."
        )
    chosen = _chosen(known, options.networks) if options.networks else side_by_side.usual(known)
    keys = chosen[measures.NETWORK_KEY].itertuples(index=False, name=None)
    names = dict(zip(keys, side_by_side.short_names(chosen), strict=True))
    found = side_by_side.compare(rows, names, accuracy=options.accuracy, interval=options.interval)
    for note in found.notes:
        print(f"Note: {note}", file=sys.stderr)
    ranks = found.ranks
    ranked = ranks and {
        "friedman": ranks.statistic,
        "p": ranks.p,
        "critical_difference": ranks.critical_difference,
        "mean_ranks": ranks.ranks.to_dict(),
        "not_told_apart": ranks.groups,
    }
    means, pairs = (table.to_dict("records") for table in (found.means, found.pairs))
    return {"tasks": len(found.grid), "means": means, "pairs": pairs, "ranks": ranked}


def _chosen(known: pd.DataFrame, asked: list[str]) -> pd.DataFrame:
    """The rows of those networks that are asked for by method and sparsity (percent)."""
    names = side_by_side.asked_names(known)
    for name in asked:
        if name not in names:
            raise unknown_name("network", name, names)
    return known[[name in asked for name in names]]


def _add_rank(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, help="a name that 'datasets' lists, a folder or a Parquet file")
    parser.add_argument("--backbones", default="", metavar="N,N", help="all that are ready by default")
    parser.add_argument("--measure", choices=RANKINGS, default="ridge", help="default ridge")


def _rank(options: argparse.Namespace) -> list[dict[str, Any]]:
    from sparse_core.transfer import ranked

    names = [name.strip() for name in options.backbones.split(",") if name.strip()]
    found = ranked.rank(options.home, names, options.dataset, options.measure, lambda _: None)
    if found.probes >= 3:
        said = f"Kendall's tau {found.tau:.2f} (p {found.p:.2g}) with the linear probes of {found.probes} backbones."
    else:
        said = f"Linear probes of {found.probes} of these backbones: too few to say how well they agree."
    print(f"Note: {said}", file=sys.stderr)
    return found.rows


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser, EvaluateSpec)


def _evaluate(options: argparse.Namespace) -> dict[str, Any]:
    from sparse_core.transfer import upstream_evaluation

    spec = from_arguments(EvaluateSpec, options)
    found = upstream_evaluation.run_evaluate(options.home, spec, (0,), lambda _: None)
    fields = ("top1", "mean_per_class", "images", "parts") if "top1" in found else ("map50", "map", "images")
    return {name: found[name] for name in fields}


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="CSV or Parquet, a row for each run")
    names = ", ".join((*imported.REQUIRED, *imported.OPTIONAL))
    fields = f"the column of a field, where its name differs, or FIELD==VALUE for all rows; fields: {names}"
    parser.add_argument("--map", nargs="+", default=[], metavar="FIELD=COLUMN", help=fields)
    parser.add_argument("--source", help="the name under which they are shown (default: the file's)")
    parser.add_argument("--dry-run", action="store_true", help="read and check, import nothing")
    parser.add_argument("--replace", action="store_true", help="replace the results of that source")


def _import_results(options: argparse.Namespace) -> dict[str, Any]:
    mapping = {}
    for each in (part for given in options.map for part in given.split(",")):
        name, equals, column = each.partition("=")
        if not equals or not name or not column:
            raise InputError(f"--map takes FIELD=COLUMN, such as accuracy=top1; got '{each}'.")
        mapping[name.strip()] = column.strip()
    made = imported.read(options.file, mapping, options.source or options.file.stem)
    if not options.dry_run:
        imported.keep(options.home, made, COLUMNS, replace=options.replace)
    if made.duplicates:
        listed = ", ".join(map(str, made.duplicates[:10]))
        print(
            f"Note: {len(made.duplicates)} rows repeat an earlier one's key (rows {listed}); they count as one seed.",
            file=sys.stderr,
        )
    counts = {name: int(made.rows[name].nunique()) for name in ("architecture", "method", "dataset")}
    answer = {
        "source": made.source,
        "rows": len(made.rows),
        "duplicates": made.duplicates,
        "imported": not options.dry_run,
    }
    return {**answer, **counts}


Verb = tuple[Callable[[argparse.Namespace], Any], str, Callable[[argparse.ArgumentParser], None]]
VERBS: dict[str, Verb] = {
    "findings": (_findings, "check the paper's statements against the rows there are", _add_findings),
    "guide": (_guide, "rank sparse networks for a task and a budget, with the evidence", _add_guide),
    "compare": (_compare, "two or more networks over the tasks they share, with intervals and tests", _add_compare),
    "rank": (_rank, "rank backbones on their features, before any is trained", _add_rank),
    "evaluate": (_evaluate, "accuracy of a backbone with the classifier it was trained with", _add_evaluate),
    "import-results": (_import_results, "import results of others, as a source of their own", _add_import),
}
