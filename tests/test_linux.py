"""The cores of a container: its quota of CPU time, as control groups of both versions state it."""

import os

import pytest

from sparse_core import linux
from sparse_core.engines import machine

FILES = {  # lines of /proc/self/cgroup; the groups' files; cores
    "version 2, in a container": ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
    "no limit": ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    "a group above": (
        "0::/user.slice/mine.scope\n",
        {"user.slice/cpu.max": "50000 100000", "user.slice/mine.scope/cpu.max": "200000 100000"},
        0.5,
    ),
    "the host's path": ("0::/docker/0123\n", {"cpu.max": "200000 100000"}, 2.0),
    "version 1": (
        "4:memory:/x\n3:cpu,cpuacct:/x\n",
        {"cpu,cpuacct/x/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"},
        2.5,
    ),
    "version 1 without a limit": (
        "1:cpu:/\n0::/\n",
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "damaged": ("0::/\n", {"cpu.max": "many\n"}, None),
    "nothing": ("", {}, None),
}


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Make the process one of a container with these files, on a machine of four cores."""

    def make(cgroup, files):
        (tmp_path / "proc" / "self").mkdir(parents=True)
        (tmp_path / "proc" / "self" / "cgroup").write_text(cgroup)
        for name, content in files.items():
            file = tmp_path / "groups" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        monkeypatch.setattr(linux, "PROC", tmp_path / "proc")
        monkeypatch.setattr(linux, "CGROUPS", tmp_path / "groups")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)

    return make


@pytest.mark.parametrize("kind", FILES)
def test_the_quota_of_a_container_limits_the_cores(container, kind):
    cgroup, files, quota = FILES[kind]
    container(cgroup, files)
    assert linux.cpu_quota() == quota
    assert machine.cores() == linux.cores() == {1.5: 2, None: 4, 0.5: 1, 2.0: 2, 2.5: 3}[quota]


def test_the_smallest_quota_counts_and_never_exceeds_the_cores(container):
    container("0::/\n", {"cpu.max": "900000 100000"})
    assert linux.cores() == 4


def test_libraries_get_as_many_threads_as_the_quota_allows(container, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    container("0::/\n", {"cpu.max": "150000 100000"})
    linux.limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    linux.limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_without_a_quota_the_number_of_threads_is_left_alone(container, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    container("0::/\n", {})
    linux.limit_threads()
    assert "OMP_NUM_THREADS" not in os.environ
