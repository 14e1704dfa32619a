"""The verb ``sweep`` of the command line: dry run, start, follow, pause and cancel the sweep of a YAML file."""

import argparse
import dataclasses
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from sparse_core.errors import Cancelled, InputError, as_input_error
from sparse_core.jobs import kinds, queue, sweep_files, sweep_packs, sweeps
from sparse_core.jobs.sweep_checks import missing, require_possible
from sparse_core.jobs.sweep_seconds import Seconds, outline
from sparse_core.jobs.sweeps import SweepStatus
from sparse_core.specs.options import add_arguments as add_options
from sparse_core.specs.options import names
from sparse_core.specs.slurm import SlurmSpec
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.specs.sweep import EXECUTORS, Plan, Task, plan

LONGEST_FILE = 1_000_000  # bytes
POLL_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``sweep``."""
    parser.add_argument("file", type=Path, help="a YAML file; the README describes it")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable of the file")
    parser.add_argument("--executor", choices=EXECUTORS, help="what does the runs; default as in the file, else local")
    parser.add_argument("--parallel", type=int, help="runs side by side; default as in the file, else 1")
    parser.add_argument(
        "--nodes", type=int, help="with --dry-run: plan the time that so many machines like this one take"
    )
    add_options(parser, SlurmSpec)
    verbs = parser.add_mutually_exclusive_group()
    verbs.add_argument("--dry-run", action="store_true", help="list the runs, how many are new and how long they take")
    verbs.add_argument("--retry", action="store_true", help="try the failed runs again")
    verbs.add_argument(
        "--pause", action="store_true", help="pause this sweep, as Ctrl-C does; started again, it goes on"
    )
    verbs.add_argument("--cancel", action="store_true", help="stop this sweep, and give up what runs")


def sweep(options: argparse.Namespace) -> dict[str, Any]:
    """What ``sweep`` prints: of a dry run its list, else how far the sweep is."""
    if options.parallel is not None and options.parallel < 1:
        raise InputError(f"--parallel takes the number of runs side by side, at least 1; got {options.parallel}.")
    if options.nodes is not None and (options.nodes < 1 or not options.dry_run):
        raise InputError(f"--nodes takes a number of machines, at least 1, and needs --dry-run; got {options.nodes}.")
    asked, home = read_file(options.file, options.set), options.home
    if options.dry_run:
        return dry_run(home, asked, (options.parallel or asked.parallel) * (options.nodes or 1))
    if options.pause or options.cancel:
        (sweeps.pause if options.pause else sweeps.cancel)(home, asked.id)
        return _answer(sweeps.status(home, asked.id))
    if (options.executor or asked.executor) == "slurm":
        return _on_slurm(home, asked, options)
    sweep_id = sweeps.submit(home, asked, options.parallel)
    if options.retry:
        sweeps.retry(home, sweep_id, options.parallel)
    try:
        return _answer(_follow(home, sweep_id))
    except KeyboardInterrupt:
        sweeps.pause(home, sweep_id)
        _say("Paused. The same command goes on.", "\n")
        raise


def _on_slurm(home: Path, asked: Plan, options: argparse.Namespace) -> dict[str, Any]:
    """Submit what is missing, and follow it; the cluster needs nobody who looks on."""
    given = {name: getattr(options, name) for name in names(SlurmSpec) if getattr(options, name) is not None}
    spec = dataclasses.replace(asked.slurm, **given)
    sweep_id = sweep_packs.submit(home, asked, spec, options.parallel, retry=options.retry)
    try:
        return _answer(_follow(home, sweep_id, on_cluster=True))
    except KeyboardInterrupt:
        _say("The sweep goes on on the cluster. --cancel stops it.", "\n")
        raise


def read_file(file: Path, given: list[str]) -> Plan:
    """The plan of a YAML file. ``given`` are variables as NAME=VALUE."""
    variables = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise InputError(f"--set takes NAME=VALUE, such as dataset=/my/images; got '{each}'.")
        variables[name] = value
    if not file.is_file():
        raise InputError(f"There is no file at {file}. Name a YAML file.")
    if file.stat().st_size > LONGEST_FILE:
        raise InputError(f"Expected a YAML file of a sweep; {file} is larger than {LONGEST_FILE // 1_000_000} MB.")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"Expected a YAML file in UTF-8; {file} is not.") from error
    return plan(text, file.stem, variables)


def dry_run(home: Path, asked: Plan, parallel: int) -> dict[str, Any]:
    """The runs, whether each is new, and about how long they take; what is not known of this machine is measured."""
    require_possible(home, asked)
    new = missing(home, asked, lambda name: _hash_of(home, name))
    seconds = Seconds(home, asked)
    for job in seconds.measurements(new):
        _say(f"Timing {job.spec.backbone} on {job.spec.dataset} …", "\r")
        try:
            kinds.run(home, job, lambda _: None)
        except (Cancelled, InputError) as error:
            _say(f"The time on {job.spec.dataset} cannot be estimated: {as_input_error(error) or 'cancelled'}", "\n")
    return outline(asked, new, seconds, parallel)


def _hash_of(home: Path, name: str) -> str:
    """The content hash of a backbone that has to be loaded for it; empty where that takes a download or fails."""
    from sparse_core.networks import backbones, library

    card = library.find(home, name)
    try:
        return "" if card and not card.ready else backbones.load_cached(home, name).hash
    except InputError:
        return ""


def _follow(home: Path, sweep_id: str, *, on_cluster: bool = False) -> SweepStatus:
    """Wait until the sweep has ended or was paused elsewhere, and keep its workers running where they are this machine's."""
    said: object = None
    while True:
        status = sweeps.status(home, sweep_id)
        line = _line(status)
        news = line if sys.stderr.isatty() else status.counts
        if news != said and status.state == "running":
            _say(line, "\r")
        said = news
        if status.state != "running":
            _say(line, "\n")
            for failure in status.failures:
                _say(f"Failed: {describe(failure.task)}: {failure.message}", "\n")
            return status
        if not on_cluster:
            if sweep_id not in sweep_files.active(home):
                sweeps.resume(home, sweep_id)
            queue.ensure_worker(home, sweeps.LANE)
        _wait()


def _wait() -> None:
    time.sleep(POLL_SECONDS)


def describe(task: Task) -> str:
    """A task in one line, such as "probe of net on digits"."""
    if isinstance(task.spec, SparsifySpec):
        return f"sparsify {task.spec.name or task.spec.label}"
    seeds = f", seed {task.seeds[0]}" if len(task.seeds) == 1 else ""
    return f"{task.kind} of {task.spec.backbone} on {task.spec.dataset}{seeds}"


def _line(status: SweepStatus) -> str:
    counts = status.counts
    words = [f"{counts['done']} of {counts['total']} runs done"]
    words += [f"{counts[name]} {name}" for name in ("running", "failed") if counts[name]]
    if counts["blocked"]:
        words.append(f"{counts['blocked']} waiting for runs that failed")
    if status.state == "running" and status.seconds_left is not None:
        words.append(f"about {timedelta(seconds=round(status.seconds_left))} left")
    return f"{status.name}: {', '.join(words)}"


def _answer(status: SweepStatus) -> dict[str, Any]:
    failures = [
        {"run": describe(failure.task), "seeds": list(failure.task.seeds), "message": failure.message}
        for failure in status.failures
    ]
    left = status.seconds_left if status.state in ("running", "paused") else 0.0
    answer = {"id": status.sweep_id, "name": status.name, "state": status.state, **status.counts}
    return {**answer, "seconds_left": left, "failures": failures}


def _say(text: str, end: str) -> None:
    clear = "\033[K" if sys.stderr.isatty() else ""
    print(f"{clear}{text}", end=end if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
