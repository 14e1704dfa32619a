"""What once stood in a user's way, each in a real Chromium, on a home folder that has runs, a finished probe and measurements."""

import dataclasses
import re
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.results.records import Record
from sparse_core.specs.identity import record_document, run_id
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import ProbeSpec, protocol
from sparse_core.speed import measurements
from tests.browser import served
from tests.browser.served import assert_no_error, first_chart, open_page
from tests.support.measurements import line, speed_record
from tests.support.records import record, write

RATES = (0.1, 0.01)


def probed(sparsity: float, seed: int, rate: float) -> Record:
    """A run with this learning rate."""
    made = record(sparsity=sparsity, seed=seed, best=0.9 - sparsity / 10 + 0.01 * seed)
    settings = Hyperparameters(learning_rate=rate)
    spec = dataclasses.replace(
        ProbeSpec("net", "digits", backbone_hash=f"net{sparsity}", dataset_hash="data"), settings=settings
    )
    result = {**made.result, "protocol": protocol(spec), "learning_rate": rate, "validation": {"0.1": 0.8, "0.01": 0.7}}
    return Record(run_id(spec, seed), record_document(spec, seed), result, made.events)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The home folder and the finished probe in it."""
    home = tmp_path_factory.mktemp("home")
    runs = [probed(sparsity, seed, rate) for sparsity in (0.0, 0.5) for seed in range(3) for rate in RATES]
    write(home, *runs)
    measurements.write(home, speed_record("a", lines=[line(ratio=1.02, width=0.05)]))
    spec = ProbeSpec("efficientnet_lite0", "digits", settings=Hyperparameters(epochs=7))
    found = queue.submit(home, Job("probe", spec, (0, 1, 2)))
    queue.end(home, found, "done", result={"runs": [each.run_id for each in runs[6::2]], "found": []})
    return home, found


@pytest.fixture(scope="module")
def address(job):
    with served.dashboard(job[0]) as address:
        yield address


def test_one_task_has_the_spread_over_its_seeds(page: Page, address: str):
    open_page(page, f"{address}/?tasks=CIFAR-10&transfer=Linear")
    expect(first_chart(page)).to_contain_text("standard error over seeds")
    assert first_chart(page).locator(".errorbars path").count() > 5
    page.get_by_role("button", name="Table").first.click()
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()


def test_series_are_named_by_what_differs(page: Page, address: str):
    open_page(page, f"{address}/?architecture=EfficientNet-Lite0&source=Your+runs")
    for rate in RATES:
        expect(first_chart(page)).to_contain_text(f"lr {rate:g}")


def test_an_interval_that_includes_1_is_inconclusive(page: Page, address: str):
    open_page(page, f"{address}/speedup?machine=Some+processor,+2+cores")
    expect(page.get_by_text("Inconclusive in DeepSparse", exact=False).first).to_be_visible()
    assert page.get_by_text("no gain").count() == 0


def test_a_finished_probe_shows_its_rate_its_rank_and_its_own_settings(page: Page, address: str, job):
    open_page(page, f"{address}/probe?job={job[1]}")
    chosen = page.get_by_test_id("stMetric").filter(has_text="Learning rate chosen")
    expect(chosen.get_by_test_id("stMetricValue")).to_have_text("0.1")
    expect(page.get_by_text("points to dense")).to_contain_text("rank 1 at this sparsity")
    page.get_by_text("Training settings", exact=False).first.click()
    expect(page.get_by_label("Epochs").first).to_have_value("7")
    assert_no_error(page)


def test_a_form_that_cannot_work_does_not_start(page: Page, address: str):
    wrong = {"sweep": "fast slow"}
    open_page(page, f"{address}/probe?{urlencode(wrong)}")
    expect(page.get_by_text("Expected learning rates such as 0.001 0.01 0.1")).to_be_attached()
    expect(page.get_by_role("button", name="Start probe")).to_be_disabled()


def test_what_would_empty_the_view_is_not_offered(page: Page, address: str):
    open_page(page, f"{address}/tasks?architecture=EfficientNet-Lite0")
    expect(page.get_by_role("radio", name="Your runs")).to_be_visible()
    assert page.get_by_role("radio", name="Full", exact=True).count() == 0
    assert page.get_by_role("radio", name="Paper results").count() == 0


def test_a_view_is_saved_and_opened_again(page: Page, address: str):
    open_page(page, f"{address}/tasks?architecture=EfficientNet-Lite0&value=Accuracy")
    page.get_by_role("button", name="Views").click()
    page.get_by_role("textbox", name="Name of the present view").fill("Mine")
    page.get_by_role("button", name="Save view").click()
    expect(page.get_by_role("link", name="Mine")).to_be_visible()
    open_page(page, f"{address}/tasks")
    page.get_by_role("button", name="Views").click()
    page.get_by_role("link", name="Mine").click()
    expect(page.get_by_role("radio", name="Accuracy", exact=True)).to_be_checked()


def test_a_filter_holds_on_all_pages(page: Page, address: str):
    open_page(page, f"{address}/")
    page.get_by_role("button", name="Filters", exact=True).click()
    page.get_by_text("Use these filters on all pages").click()
    served.choose(page, "Methods", "AC/DC")
    page.keyboard.press("Escape")
    expect(page.get_by_text("Some results are hidden by the filters that hold on all pages.")).to_be_visible()
    served.go_to(page, "Results", "Tasks")
    expect(page.get_by_text("Some results are hidden by the filters that hold on all pages.")).to_be_visible()
    expect(first_chart(page)).to_contain_text("AC/DC 80 %")
    expect(first_chart(page)).not_to_contain_text("WoodFisher")


def test_points_on_top_of_each_other_are_all_named(page: Page, address: str):
    open_page(page, f"{address}/?architecture=EfficientNet-Lite0&source=Your+runs")
    marker = first_chart(page).locator(".scatterlayer .points path").first
    named = first_chart(page).locator(".hoverlayer")
    for _ in range(40):  # Plotly takes the pointer only once it has drawn
        page.mouse.move(0, 0)
        marker.hover(force=True)  # the two rates have the same accuracies, so one point covers the other
        page.wait_for_timeout(250)
        if named.text_content():
            break
    for rate in RATES:
        expect(named).to_contain_text(f"lr {rate:g}")


def test_nominal_and_measured_sparsity_have_their_own_labels(page: Page, address: str):
    open_page(page, f"{address}/structure?backbone=resnet20_acdc_90_s0")
    expect(page.get_by_test_id("stMain")).to_contain_text("AC/DC 90 %")  # as asked for
    measured = page.get_by_test_id("stMetric").filter(has_text="Backbone sparsity")
    expect(measured.get_by_test_id("stMetricValue")).to_have_text(re.compile(r"(89\.\d|90(\.\d)?) %"))


def test_wrong_input_leaves_the_running_job_its_progress_and_its_cancel(page: Page, address: str, job):
    spec = ProbeSpec("efficientnet_lite0", "digits", settings=Hyperparameters(epochs=3))
    waiting = queue.new_id()
    queue.place(job[0], Job("probe", spec, (0,)), queue.SLURM, waiting)  # no worker of this machine takes it
    open_page(page, f"{address}/probe?{urlencode({'sweep': 'fast slow'})}")
    expect(page.get_by_text("Expected learning rates such as 0.001 0.01 0.1")).to_be_attached()
    expect(page.get_by_role("heading", name="EfficientNet-Lite0, Dense on Digits")).to_be_visible()
    page.get_by_role("button", name="Cancel", exact=True).first.click()
    expect(page.get_by_text("Cancel", exact=True)).to_have_count(0)
    assert queue.status(job[0], waiting).state == "cancelled"
