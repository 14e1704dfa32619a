"""Extractions that are cancelled or killed go on where they were, and give the same features bit by bit."""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from sparse_core import leases
from sparse_core.engines import extractor
from sparse_core.errors import Cancelled
from sparse_core.paths import REPOSITORY
from sparse_core.transfer import feature_cache, features, training
from tests.support.backbones import noise_dataset, small_backbone

TRAIN, TEST = 30, 11


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return small_backbone(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def dataset(monkeypatch):
    monkeypatch.setattr(training, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(extractor, "LARGEST_BATCH", 4)
    return noise_dataset(TRAIN, TEST)


@pytest.fixture
def undisturbed(home, backbone, dataset):
    return features.extract(home / "undisturbed", backbone, dataset, engine="torch")


def cancel_at(images, seen):
    def report(progress):
        seen.append(progress.done)
        if progress.done >= images:
            raise Cancelled

    return report


def cancelled(home, backbone, dataset, images=18):
    """The folder of an extraction that was cancelled after so many images."""
    with pytest.raises(Cancelled):
        features.extract(home, backbone, dataset, engine="torch", on_progress=cancel_at(images, []))
    return feature_cache.unfinished(feature_cache.folder(home, backbone, dataset, "torch", "fp32"))


def assert_same(found, expected):
    np.testing.assert_array_equal(found.train, expected.train)
    np.testing.assert_array_equal(found.test, expected.test)
    np.testing.assert_array_equal(found.train_labels, expected.train_labels)


def resume(home, backbone, dataset, engine="torch"):
    """The features and the images that were done at each report."""
    done = []
    return features.extract(home, backbone, dataset, engine=engine, on_progress=lambda p: done.append(p.done)), done


@pytest.mark.parametrize("images", [4, 18, TRAIN, TRAIN + 5], ids=["start", "middle", "end of a split", "next split"])
def test_a_cancel_keeps_every_image_that_was_done(home, backbone, dataset, undisturbed, images):
    place = cancelled(home, backbone, dataset, images)
    assert place.is_dir() and not place.with_name(place.name[1:].removesuffix(".parts")).exists()
    whole, done = resume(home, backbone, dataset)
    assert done[0] > images
    assert not whole.cached
    assert_same(whole, undisturbed)
    assert not list((home / "features").glob(".*"))
    assert {file.name for file in next((home / "features").iterdir()).iterdir()} == {
        *feature_cache.FILES,
        "manifest.json",
    }


def test_a_cancel_is_kept_where_the_engine_is_chosen(home, backbone, dataset, undisturbed):
    cancelled(home, backbone, dataset)
    whole, done = resume(home, backbone, dataset, engine="auto")
    assert whole.engine == "torch" and done[-1] == TRAIN + TEST
    assert_same(whole, undisturbed)


def flip_a_byte(place):
    with open(place / "train.npy", "r+b") as file:
        file.seek(600)
        byte = file.read(1)
        file.seek(600)
        file.write(bytes([byte[0] ^ 1]))


def truncate(place):
    os.truncate(place / "train.npy", 1000)


def empty(place):
    os.truncate(place / "train.npy", 0)


def wrong_header(place):
    np.save(place / "train.npy", np.ones((5, 64)))


def delete_a_split(place):
    (place / "train.npy").unlink()


def cut_the_journal(place):
    journal = place / feature_cache.JOURNAL
    journal.write_bytes(journal.read_bytes()[:-20])


def garble_the_journal(place):
    lines = (place / feature_cache.JOURNAL).read_text().splitlines()
    odd = ["null", "[]", "{", '{"split": "train"}', "\x00", json.dumps(json.loads(lines[1]) | {"start": -4})]
    odd += [json.dumps(json.loads(lines[1]) | {"split": "val"}), json.dumps(json.loads(lines[1]) | {"rows": 10**9})]
    (place / feature_cache.JOURNAL).write_text("\n".join([lines[0], *odd, *lines[1:]]))


def random_journal(place):
    (place / feature_cache.JOURNAL).write_bytes(np.random.default_rng(0).bytes(300))


def delete_the_journal(place):
    (place / feature_cache.JOURNAL).unlink()


DAMAGE = [flip_a_byte, truncate, empty, wrong_header, delete_a_split]
DAMAGE += [cut_the_journal, garble_the_journal, random_journal, delete_the_journal]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_rows_are_extracted_again(home, backbone, dataset, undisturbed, monkeypatch, damage):
    monkeypatch.setattr(features, "CHUNK_SECONDS", 0.0)
    damage(cancelled(home, backbone, dataset))
    whole, _ = resume(home, backbone, dataset)
    assert_same(whole, undisturbed)


def test_only_the_damaged_chunk_is_extracted_again(home, backbone, dataset, monkeypatch):
    monkeypatch.setattr(features, "CHUNK_SECONDS", 0.0)
    flip_a_byte(cancelled(home, backbone, dataset, 20))
    _, done = resume(home, backbone, dataset)
    assert done[0] == 20  # 16 were intact


def test_rows_of_another_version_of_the_engine_are_dropped(home, backbone, dataset, undisturbed, monkeypatch):
    journal = cancelled(home, backbone, dataset) / feature_cache.JOURNAL
    first, *lines = journal.read_text().splitlines()
    identity = json.loads(first) | {"engine_version": "0.1"}
    journal.write_text("\n".join([json.dumps(identity, sort_keys=True), *lines]))
    whole, done = resume(home, backbone, dataset)
    assert done[0] == 4
    assert_same(whole, undisturbed)


def test_a_killed_extraction_goes_on(home, backbone, dataset, undisturbed, tmp_path):
    """Killed without a chance to clean up; what was written before is kept."""
    killed = (
        "import os\nfrom pathlib import Path\nfrom sparse_core.engines import extractor\n"
        "from sparse_core.transfer import features, training\n"
        "from tests.support.backbones import noise_dataset, small_backbone\n"
        "training.SECONDS_BETWEEN = features.CHUNK_SECONDS = 0.0\nextractor.LARGEST_BATCH = 4\n"
        f"features.extract(Path({str(home)!r}), small_backbone(Path({str(tmp_path)!r})), noise_dataset({TRAIN}, {TEST}), "
        "engine='torch', on_progress=lambda progress: progress.done >= 20 and os._exit(9))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run([sys.executable, "-c", killed], env=environment, cwd=REPOSITORY).returncode == 9
    whole, done = resume(home, backbone, dataset)
    assert done[0] == 24
    assert_same(whole, undisturbed)


def test_a_kill_between_the_last_row_and_the_name_of_the_folder(home, backbone, dataset, undisturbed, monkeypatch):
    replace = os.replace

    def killed(source, target):
        if not str(target).endswith(feature_cache.JOURNAL):
            raise KeyboardInterrupt
        replace(source, target)

    for call in ("replace", "rename"):  # of the manifest, then of the folder
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(os, call, killed)
            features.extract(home, backbone, dataset, engine="torch")
        assert not [entry for entry in (home / "features").iterdir() if not entry.name.startswith(".")]
    whole, done = resume(home, backbone, dataset)
    assert not done  # nothing was left to extract
    assert_same(whole, undisturbed)


def test_two_processes_extract_the_same_features_once(home, backbone, dataset, undisturbed, monkeypatch):
    """The second waits while the first holds the lock, then reads what it made."""
    monkeypatch.setattr(features, "WAIT_SECONDS", 0.0)
    folder = feature_cache.folder(home, backbone, dataset, "torch", "fp32")
    stages = []
    with contextlib.ExitStack() as first:
        assert first.enter_context(leases.hold(feature_cache.unfinished(folder).with_suffix(".lease")))

        def end_first(progress):
            stages.append(progress.stage)
            os.rename(home / "undisturbed" / "features" / folder.name, folder)
            first.close()

        made = features.extract(home, backbone, dataset, engine="torch", on_progress=end_first)
    assert made.cached and stages == ["Waiting for another extraction of these features"]
    assert list((home / "features").iterdir()) == [folder]


def shard(home, backbone, dataset, number, count=3, seen=None):
    report = (lambda _: None) if seen is None else (lambda progress: seen.append(progress.done))
    features.extract_shard(home, backbone, dataset, number, count, engine="torch", on_progress=report)


def test_shards_join_to_the_same_features(home, backbone, dataset, undisturbed):
    for number in (2, 0, 1):  # the middle one ends in the other split
        shard(home, backbone, dataset, number)
    whole, done = resume(home, backbone, dataset)
    assert not whole.cached and not [count for count in done if 0 < count < TRAIN + TEST]
    assert_same(whole, undisturbed)
    assert not list((home / "features").glob(".*"))
    shard(home, backbone, dataset, 0)  # they are there already
    assert not list((home / "features").glob(".*"))


def test_what_a_lost_shard_leaves_is_extracted_in_the_end(home, backbone, dataset, undisturbed):
    shard(home, backbone, dataset, 0)
    report = cancel_at(8, [])
    with pytest.raises(Cancelled):
        features.extract_shard(home, backbone, dataset, 1, 3, engine="torch", on_progress=report)
    whole, done = resume(home, backbone, dataset)
    assert done[0] > 12 + 8
    assert_same(whole, undisturbed)
    assert not list((home / "features").glob(".*"))


def test_a_shard_with_damaged_rows_gives_the_intact_ones(home, backbone, dataset, undisturbed):
    for number in range(3):
        shard(home, backbone, dataset, number)
    folder = feature_cache.folder(home, backbone, dataset, "torch", "fp32")
    file = feature_cache.unfinished(feature_cache.shard(folder, 0)) / "train.npy"
    content = bytearray(file.read_bytes())
    content[200] ^= 0xFF  # of the first row
    file.write_bytes(content)
    assert_same(resume(home, backbone, dataset)[0], undisturbed)


def test_shards_cut_both_splits_into_equal_numbers_of_batches(dataset):
    rows = [features._rows_of_shard(dataset, number, 3, 4) for number in range(3)]  # 8 batches of 30 images, 3 of 11
    assert rows[0] == {"train": range(0, 12), "test": range(0, 0)}
    assert rows[1] == {"train": range(12, 28), "test": range(0, 0)}
    assert rows[2] == {"train": range(28, 30), "test": range(0, 11)}
