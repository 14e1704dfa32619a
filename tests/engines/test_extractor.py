"""Features of each engine in the form in which they are extracted, against the network itself in PyTorch."""

import threading

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from sparse_core.engines import extractor
from sparse_core.engines.compiling import TOLERANCE
from sparse_core.engines.extractor import Extractor
from sparse_core.errors import InputError
from tests.support.backbones import small_backbone
from tests.support.engines import AVAILABLE, ENGINES

ROWS = 75  # whole batches in no form


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return small_backbone(tmp_path_factory.mktemp("weights"), sparsity=0.9)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def opened(backbone):
    extractors = {engine: Extractor(engine, backbone) for engine in AVAILABLE}
    yield extractors
    for entry in extractors.values():
        entry.close()


def extract(entry, images, rows):
    return np.concatenate(list(entry.extract(lambda row: images[row], rows)))


@pytest.mark.parametrize("engine", ENGINES)
def test_features_are_those_of_the_network_in_torch(opened, backbone, images, engine):
    prepared = v2.functional.normalize(
        torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
        list(backbone.transform.mean),
        list(backbone.transform.std),
    )
    with torch.no_grad():
        expected = backbone.module(prepared).numpy()
    found = extract(opened[engine], images, range(ROWS))
    assert found.dtype == np.float32 and found.shape == (ROWS, 64)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE["fp32"] / 10 * np.abs(expected).max())
    opened[engine].require_exact(images[:5])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_row_has_the_same_features_wherever_the_extraction_begins(opened, images, engine):
    """Bit by bit, from any whole batch on: so an interrupted extraction can go on."""
    size = opened[engine].form.batch_size
    whole = extract(opened[engine], images, range(ROWS))
    for start in (size, 0):
        again = extract(opened[engine], images, range(start, ROWS))
        np.testing.assert_array_equal(again, whole[start:])
    np.testing.assert_array_equal(extract(opened[engine], images, range(size)), whole[:size])


@pytest.mark.parametrize("engine", ENGINES)
def test_images_are_decoded_ahead_and_not_all_at_once(opened, images, engine):
    decoded, threads = [], set()

    def decode(row):
        decoded.append(row)
        threads.add(threading.get_ident())
        return images[row % ROWS]

    size = opened[engine].form.batch_size
    running = opened[engine].extract(decode, range(100 * size))
    next(running)
    running.close()
    assert len(decoded) <= 6 * size * max(2, torch.get_num_threads())
    assert threading.get_ident() not in threads


def test_an_error_of_decoding_ends_the_extraction(opened, images):
    def decode(row):
        if row == 30:
            raise OSError("cut off")
        return images[row]

    for entry in opened.values():
        with pytest.raises(OSError, match="cut off"):
            list(entry.extract(decode, range(ROWS)))


@pytest.mark.parametrize("engine", ENGINES)
def test_features_that_differ_are_refused(opened, images, engine, monkeypatch):
    entry = opened[engine]
    if engine == "torch":
        return entry.require_exact(images[:5])  # is what the others are compared with
    known = type(entry._compiled).run
    monkeypatch.setattr(type(entry._compiled), "run", lambda self, given: known(self, given) * np.float32(1.01))
    with pytest.raises(InputError, match="differs from PyTorch's in fp32"):
        entry.require_exact(images[:5])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_pace_is_positive_and_leaves_the_engine_usable(opened, images, engine, monkeypatch):
    monkeypatch.setattr(extractor, "MEASURE_SECONDS", 0.0)
    assert 0 < opened[engine].seconds_per_image(images[:3]) < 1
    assert extract(opened[engine], images, range(3)).shape == (3, 64)


def test_reduced_precision_runs_in_torch_only(backbone, images):
    with Extractor("torch", backbone, "bf16") as reduced, Extractor("torch", backbone) as full:
        low, high = (extract(entry, images, range(8)) for entry in (reduced, full))
    assert 0 < np.abs(low - high).max() < 0.05 * np.abs(high).max()
    with pytest.raises(InputError, match="needs the engine torch"):
        Extractor("onnxruntime", backbone, "bf16")
