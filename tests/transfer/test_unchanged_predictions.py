"""The bound on logits: predictions that may have changed are computed again, and few others."""

import dataclasses

import numpy as np
import pytest
import torch

from sparse_core.transfer.evaluation import EvaluationSet
from sparse_core.transfer.linear_training import train
from sparse_core.transfer.unchanged_predictions import Predictions
from tests.support.samples import SETTINGS, TEST, TRAIN


@pytest.mark.parametrize("products", ["fp32", "bf16"])
def test_unchanged_predictions_are_not_computed_again(products, monkeypatch):
    """The curves are those of computing all predictions in every epoch; most of that work is saved."""
    settings = dataclasses.replace(SETTINGS, epochs=40, step_epochs=10)
    uncertain = Predictions.uncertain
    asked = []

    def spy(self, weight, bias):
        rows = uncertain(self, weight, bias)
        asked.append(len(rows))
        return rows

    monkeypatch.setattr(Predictions, "uncertain", spy)
    spared = train(TRAIN, TEST, 4, [0, 1], settings, products=products)
    monkeypatch.setattr(Predictions, "uncertain", lambda self, weight, bias: torch.arange(len(TEST.labels)))
    whole = train(TRAIN, TEST, 4, [0, 1], settings, products=products)
    for one, other in zip(spared, whole, strict=True):
        assert one.curves["top1"] == other.curves["top1"]
        np.testing.assert_array_equal(one.confusion, other.confusion)
    assert len(asked) == 2 * 40
    assert np.mean(asked[40:]) < 0.2 * len(TEST.labels)


def test_predictions_equal_those_computed_in_full():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(500, 64, generator=generator)
    predictions = Predictions(EvaluationSet(features, np.arange(500) % 5, 5))
    weight, bias = torch.randn(5, 64, generator=generator), torch.randn(5, 1, generator=generator)
    for size in (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        for _ in range(20):
            weight += size * torch.randn(weight.shape, generator=generator)
            bias += size * torch.randn(bias.shape, generator=generator)
            found = predictions.update(weight, bias)
            logits = features.double() @ weight.double().T + bias[:, 0].double()
            best = logits.topk(2, dim=1)
            clear = best.values[:, 0] - best.values[:, 1] > 1e-5
            assert torch.equal(found[clear], best.indices[clear, 0])
