"""Comparisons of backbones: means over the same tasks, and sizes."""

from pathlib import Path

import numpy as np
import pytest

from sparse_core.results import measures
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.views import footnotes
from tests.support.results import measured, row


def test_means_are_over_the_tasks_that_all_backbones_have() -> None:
    rows = measured(
        *(row("Dense", 0, accuracy, dataset=task) for task, accuracy in (("a", 0.9), ("b", 0.5))),
        *(row("STR", 0.5, accuracy, seed, dataset="a") for seed, accuracy in enumerate((0.7, 0.8, 0.9))),
    )
    table = measures.over_same_tasks(measures.per_configuration(rows)).set_index("method")
    assert table.loc["Dense", "accuracy_mean"] == pytest.approx(0.9)
    assert np.isnan(table.loc["Dense", "standard_error"])
    assert table.loc["STR", "standard_error"] == pytest.approx(0.1 / np.sqrt(3))
    assert table["tasks"].tolist() == [1, 1]


def test_paper_results_have_no_sizes(tmp_path: Path) -> None:
    resnet50 = Store(Records(tmp_path)).results(architecture="resnet50")
    sized = measures.with_sizes(measures.summary(resnet50), resnet50)
    assert len(sized) == len(measures.summary(resnet50))
    assert sized[list(measures.SIZES)].isna().all(axis=None)
    notes = footnotes.size_notes("file_size", len(resnet50))
    assert "in MB" in notes[0] and notes[1].startswith("1,923 paper results left out")
    assert footnotes.size_notes("sparsity", 0) == []
