"""What grows in the home folder is bounded: the workers' log, and the parts of extractions that were given up."""

import os
import subprocess
import sys
import time

from sparse_core.jobs import queue, worker


def test_the_log_of_the_workers_is_bounded_and_its_end_is_kept(home, monkeypatch):
    monkeypatch.setattr(queue, "LOG_BYTES", 1000)
    log = home / "workers" / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("x" * 1000)
    queue.limit_log(home)
    assert log.stat().st_size == 1000 and not log.with_name("log.old.txt").exists()
    with open(log, "ab") as output:  # as a worker has it
        output.write(b"y" * 400)
        output.flush()
        worker.Worker(home, "long")._sweep()
        assert log.read_text() == "" and log.with_name("log.old.txt").read_text() == "x" * 100 + "y" * 400
        subprocess.run([sys.executable, "-c", "print('later')"], stdout=output, check=True)
    assert log.read_text() == "later\n"


def test_parts_of_extractions_that_were_given_up_are_deleted(home):
    now, long_ago = time.time(), time.time() - worker.STATE_SECONDS - 60
    for name, written in ((".old.parts", long_ago), (".going-on.parts", now)):
        parts = home / "features" / name
        parts.mkdir(parents=True)
        (parts / "train.npy").write_bytes(b"rows")
        os.utime(parts / "train.npy", (written, written))
        os.utime(parts, (long_ago, long_ago))  # rows are appended to files, which does not touch the folder
    (home / "features" / "whole").mkdir()
    worker.Worker(home, "interactive")._sweep()
    assert {entry.name for entry in (home / "features").iterdir()} == {".going-on.parts", "whole"}
