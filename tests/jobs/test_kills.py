"""A kill at any change to the disk loses no result, repeats at most the last epoch, and leaves nothing behind."""

import json
import subprocess
import sys

import pytest

from sparse_core.paths import REPOSITORY

TRAINED_SIDE_BY_SIDE = {"probe": 2, "finetune": 1}


@pytest.mark.parametrize("kind", ["probe", "finetune"])
def test_a_job_killed_at_any_step_ends_as_if_it_had_not_been(kind, tmp_path):
    """Records and networks agree bit by bit with those of a job that was not killed; only times differ."""
    command = [sys.executable, "-m", "tests.support.kills", str(tmp_path), kind]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["failures"] == []
    assert found["kills"] > 30
    compared = {name.split("/")[0] for name in found["compared"]}
    assert compared >= {"runs", "outcome", "epochs"} | ({"networks"} if kind == "finetune" else set())
    usual, most = found["epochs"]
    assert usual == 4
    assert usual <= most <= usual + TRAINED_SIDE_BY_SIDE[kind]  # at worst the last epoch is trained again
