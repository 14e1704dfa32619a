"""The verbs of the command line that help to decide: ``findings``."""

import argparse
from collections.abc import Callable
from typing import Any

from sparse_core.results import findings
from sparse_core.results.records import Records
from sparse_core.results.store import SOURCES, Store

PROMISED = ("id", "statement", "source", "verdict", "value", "low", "high", "rows")
MORE = ("n", "interval", "architecture", "note")


def _add_findings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", choices=SOURCES, help="whose rows to check; each source by default")
    parser.add_argument("--accuracy", choices=("best", "final"), default="best", help="over epochs, or final")


def _findings(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = Store(Records(options.home)).results(source=options.source or "all")
    sources = [options.source] if options.source else list(SOURCES)
    checked = [found for source in sources for found in findings.check(rows, source, options.accuracy)]
    return [{name: getattr(found, name) for name in (*PROMISED, *MORE)} for found in checked]


Verb = tuple[Callable[[argparse.Namespace], Any], str, Callable[[argparse.ArgumentParser], None]]
VERBS: dict[str, Verb] = {
    "findings": (_findings, "check the paper's statements against the rows there are", _add_findings),
}
