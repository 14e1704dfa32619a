"""Which runs of a sweep are there already."""

import dataclasses

import pytest

from sparse_core import paths
from sparse_core.jobs.sweep_checks import Finished
from sparse_core.networks import library
from sparse_core.paths import REPOSITORY
from sparse_core.results.records import Record
from sparse_core.specs.identity import record_document, run_id
from sparse_core.specs.sweep import Task
from sparse_core.specs.transfer import ProbeSpec
from tests.support.records import record, write


@pytest.mark.parametrize(("asked", "found"), [(0, ""), (32, ""), (48, None)])
def test_the_own_image_size_of_a_backbone_is_no_other_size(monkeypatch, tmp_path, asked, found):
    monkeypatch.setattr(paths, "ZOO", REPOSITORY / "data" / "zoo")
    spec = ProbeSpec("resnet20_dense_s0", "digits", image_size=asked)  # whose images have 32 pixels
    hashes = {"backbone_hash": library.find(tmp_path, spec.backbone).hash, "dataset_hash": "d"}
    ran = dataclasses.replace(spec, image_size=0, **hashes)
    made = record()
    write(tmp_path, Record(run_id(ran, 0), record_document(ran, 0), made.result, made.events))
    task = Task("a", "probe", spec, (0,))
    assert Finished(tmp_path, data_hash=lambda _: "d").find(task, spec) == found
