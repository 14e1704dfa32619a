"""Rank in Streamlit's test harness: the job it submits, its result, and a ranking that cannot be done."""

from pages.parts.captured import capture
from sparse_core.jobs import queue, worker
from sparse_core.networks import importing
from sparse_core.specs.ranking import RankSpec
from sparse_core.views import activity
from tests.pages.support import chart_text, choose, open_app, press, submitted, table
from tests.support.networks import pruned_file

NAMES = ("one", "two")


def ranked(home, tmp_path, images, **query):
    """The page after its button, and the job done."""
    for seed, name in enumerate(NAMES):
        importing.add(home, pruned_file(tmp_path / f"{name}.pth", 0.5, seed), name)
    app = open_app("rank", dataset="My own folder or Parquet file", path=images, **query)
    choose(app, rank_backbones=list(NAMES))
    press(app, "Rank")
    job_id = app.query_params["job"]
    worker.work(home, job_id)
    return job_id


def test_a_ranking_from_the_button_to_the_chart(home, tmp_path, images):
    job_id = ranked(home, tmp_path, images, measure="k nearest neighbours")
    job = queue.status(home, job_id).job
    assert job.spec.measure == "knn" and "2 backbones" in activity.job_label(job)
    app = open_app("rank", job=job_id)
    shown = table(app)
    assert set(shown["row"].str.partition(":")[0]) == set(NAMES)
    assert shown["score"].is_monotonic_decreasing and "k = " in shown["chosen"].iloc[0]
    assert "too few to say how well they agree" in chart_text(app) and "not a probe" in chart_text(app)
    blocks = capture("rank", {"job": [job_id]})["blocks"]  # for a report
    assert [block["kind"] for block in blocks if block["kind"] in ("chart", "table")] == ["chart", "table"]
    assert any("No ranking is shown yet" in block.get("text", "") for block in capture("rank", {})["blocks"])


def test_chosen_backbones_only_and_progress_with_cancel(home, tmp_path, images):
    for seed, name in enumerate(NAMES):
        importing.add(home, pruned_file(tmp_path / f"{name}.pth", 0.5, seed), name)
    app = open_app("rank", dataset="My own folder or Parquet file", path=images)
    choose(app, rank_backbones=["two"])
    press(app, "Rank")
    (job,) = submitted(home, "rank")
    assert job.spec == RankSpec(images, "ridge", ("two",))
    assert "Cancel" in [button.label for button in app.button]
    press(app, "Cancel")
    assert queue.status(home, app.query_params["job"]).state == "cancelled"


def test_a_ranking_without_backbones_is_one_sentence(home, images, monkeypatch):
    app = open_app("rank", dataset="My own folder or Parquet file", path=images)
    press(app, "Rank")
    job_id = app.query_params["job"]
    queue.end(home, job_id, "failed", "There is no backbone to rank.")
    app = open_app("rank", job=job_id)
    assert "There is no backbone to rank" in app.error[0].value
