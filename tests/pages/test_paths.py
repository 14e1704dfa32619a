"""Paths that are no UTF-8, as the command line may give them, break no page."""

import os
import subprocess

import pytest

from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.results.records import Record, Records
from sparse_core.specs.checkpoints import InspectSpec
from sparse_core.specs.evaluation import EvaluateSpec
from sparse_core.specs.options import command
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec
from tests.pages.support import open_page
from tests.support.records import record

ODD = "/data/caf\udce9 1/it's"  # Latin-1


@pytest.mark.parametrize("state", ["done", "failed", "queued"])
def test_a_path_that_is_no_utf_8_breaks_no_page(home, no_worker, state):
    made = record(final=0.7)
    Records(home).write(Record(made.run_id, {**made.spec, "dataset": ODD, "backbone": ODD}, made.result, made.events))
    jobs = {"probe": ProbeSpec(ODD, ODD), "finetune": FinetuneSpec(ODD, ODD), "inspect": InspectSpec(f"{ODD}.pth")}
    jobs |= {"evaluate": EvaluateSpec(ODD, ODD, ODD)}
    for kind, spec in jobs.items():
        job_id = queue.submit(home, Job(kind, spec))
        if state == "failed" or (state == "done" and kind == "inspect"):
            queue.end(home, job_id, "failed", f"There is no folder or file at {ODD}.")
        elif state == "done" and kind == "probe":
            queue.end(home, job_id, "done", result={"runs": [made.run_id], "found": []})
        app = open_page({"inspect": "library"}.get(kind, kind), job=job_id)
        assert not app.exception and "Internal error" not in str([error.value for error in app.error])
    app = open_page("runs")
    app.multiselect(key="chosen").set_value(app.multiselect(key="chosen").options[:1]).run()
    assert not app.exception


def test_a_copied_command_has_the_same_bytes():
    shown = command("probe", ProbeSpec("lite", ODD))
    assert shown.isascii()
    printed = subprocess.run(["bash", "-c", f"printf '%s\\0' {shown}"], capture_output=True, check=True).stdout
    assert os.fsencode(ODD) in printed.split(b"\0")
