"""Everything that reads a home folder: all pages at the addresses that show the most, the verbs that read, and the worker.

As a program it does so for a home folder as the user that runs it, and prints what was said.
"""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from pages.parts.frame import INTERNAL_ERROR, PAGES
from sparse_core import cli, stored
from sparse_core.jobs import queue, sweep_files, sweeps
from sparse_core.jobs.worker import Worker, work
from sparse_core.results.records import Records
from sparse_core.views import runs
from tests.pages.support import open_app

PARTS = {
    "speedup": ("By batch size", "Accuracy and speed", "Online training", "Time by layer", "All measurements"),
    "structure": ("Layer mask", "Side by side", "Mask overlap", "Accuracy and size"),
    "tradeoffs": ("Runs",),
}
VERBS = (["summary"], ["summary", "--per-task"], ["backbones"], ["datasets"], ["runs"])
SOURCES = (
    "runs",
    "jobs",
    "library",
    "networks",
    "speeds",
    "evaluations",
    "sweeps",
    "annotations",
    "trash",
    "backbones",
    "views",
    "columns",
)


def open_pages(home: Path, *, deep: bool = True) -> dict[str, str]:
    """The errors on each page, by its address, at all addresses if ``deep``; fails where a page raises."""
    st.cache_resource.clear()
    st.cache_data.clear()
    found = {}
    for address, query in _addresses(home) if deep else [(page.name, {}) for page in PAGES]:
        app = open_app(address, **query)
        errors = [error.value for error in app.error]
        assert INTERNAL_ERROR not in errors, (address, query, errors)
        found[f"{address} {query}"] = " ".join(errors)
    return found


def _addresses(home: Path) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = [(page.name, {}) for page in PAGES]
    found += [(page, {"part": part}) for page, parts in PARTS.items() for part in parts]
    for page, kind in (
        ("probe", "probe"),
        ("finetune", "finetune"),
        ("library", "inspect"),
        ("speedup", "speedup"),
        ("evaluate", "evaluate"),
    ):
        jobs = [entry.name for entry in (home / "jobs").glob("[0-9]*")]
        statuses = [status for status in (queue.find(home, name) for name in sorted(jobs)) if status]
        ended = [status.job_id for status in statuses if status.job.kind == kind and status.state == "done"]
        found += [(page, {"job": job_id}) for job_id in ended[-1:]]
    return found


def open_verbs(home: Path) -> dict[str, Any]:
    """What each verb prints, by its words."""
    answers = {}
    with tempfile.TemporaryDirectory() as folder:
        for words in (*VERBS, ["export", f"{folder}/all.csv"]):
            printed, said = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
                code = cli.main([*words, "--json"])
            assert code == 0, (words, said.getvalue())
            answers[" ".join(words[:2]) if words[0] != "export" else "export"] = json.loads(printed.getvalue())
    return answers


def open_records(home: Path) -> None:
    """What pages show of each run when it is chosen."""
    kept = Records(home)
    for record in kept.read_many(kept.ids()):
        kept.annotation(record.run_id)
        runs.label(record, network=True)
        runs.command(runs.recorded(record.spec), 1)
        runs.confusion([record])
        runs.curves([record])


def work_through(home: Path) -> list[str]:
    """Do all jobs that wait, as the workers do; returns the states of those that can be read."""
    names = queue.queued(home)
    for lane in ("interactive", "long"):
        for _ in range(len(names) + 1):
            job_id = Worker(home, lane)._next_job()
            if job_id is None:
                break
            work(home, job_id)
    for sweep_id in sweep_files.active(home):
        sweeps.advance(home, sweep_id)
    found = (queue.find(home, name) for name in names)
    return [status.state for status in found if status]


def source_files(home: Path) -> set[str]:
    """The files of which the product makes none again."""
    return {str(file.relative_to(home)) for name in SOURCES for file in (home / name).rglob("*") if file.is_file()}


def open_everything(home: Path, *, deep: bool = True) -> dict[str, Any]:
    """All of it; fails where anything raises, or deletes a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_TRANSFER_HOME", str(home))
        patch.setattr(queue, "ensure_worker", lambda *_: None)
        before = source_files(home)
        open_records(home)
        errors = open_pages(home, deep=deep)
        answers = open_verbs(home)
        found = [status.sweep_id for status in sweeps.recent(home, limit=1000)]
        states = work_through(home)
        assert before <= source_files(home)
    return {"errors": errors, "answers": answers, "states": states, "sweeps": found, "notes": stored.notes(home)}


def open_read_only(home: Path, weights: Path) -> dict[str, Any]:
    """All pages and reading verbs, and what verbs say that would write; fails where anything raises."""
    said = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_TRANSFER_HOME", str(home))
        errors, answers = open_pages(home, deep=False), open_verbs(home)
        found = [status.sweep_id for status in sweeps.recent(home, limit=1000)]
        for words in (
            ["import", str(weights), "--name", "new"],
            ["rebuild"],
            ["probe", "--backbone", "own", "--dataset", "digits"],
        ):
            stream = io.StringIO()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(stream):
                said[words[0]] = (cli.main([*words, "--json"]), stream.getvalue())
    return {"errors": errors, "answers": answers, "said": said, "sweeps": found, "notes": stored.notes(home)}


if __name__ == "__main__":
    home_folder, *weights_file = map(Path, sys.argv[1:])
    found_there = open_read_only(home_folder, *weights_file) if weights_file else open_everything(home_folder)
    print("ANSWER", json.dumps(found_there))
