"""A sparse network of the user's own in a real Chromium: brought in, looked into, finetuned, and its mask kept."""

import re

import pytest
import torch
from playwright.sync_api import Page, expect
from safetensors.torch import load_file

from sparse_core.networks import architectures, masks
from tests.browser import served
from tests.browser.served import MINUTE, no_fault, open_page

SPARSITY = 0.8


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A dashboard whose workers compute on one thread: two wait for each other longer than a network this small takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with served.dashboard(tmp_path_factory.mktemp("home")) as address:
            yield address


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A CIFAR ResNet20 of 10 classes as its training would save it; its mask is what is not 0."""
    torch.manual_seed(0)
    module = architectures.build("resnet20")
    masks.apply(module, masks.top_k(module, SPARSITY))
    state = {**module.state_dict(), "linear.weight": torch.randn(10, 64), "linear.bias": torch.zeros(10)}
    file = tmp_path_factory.mktemp("checkpoint") / "my-resnet20.pth.tar"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}, file)
    return file, masks.from_zeros(module)


def choose(page: Page, control: str, option: str) -> None:
    """By keyboard, for a long list holds only those options that are in view."""
    page.get_by_role("combobox", name=control).first.click()
    page.keyboard.type(option)
    page.keyboard.press("Enter")


def test_a_checkpoint_comes_into_the_library(page: Page, address: str, checkpoint):
    open_page(page, f"{address}/library")
    page.locator("input[type=file]").set_input_files(checkpoint[0])
    expect(page.get_by_text("Format: nested, DataParallel, CIFAR ResNet; variant A.")).to_be_visible(timeout=MINUTE)
    expect(page.locator(".js-plotly-plot").first).to_contain_text("Sparsity by layer", timeout=MINUTE)
    page.get_by_label("Name", exact=True).fill("mine")
    choose(page, "Pruning method", "GMP")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("“mine” is in the library.")).to_be_visible(timeout=MINUTE)
    no_fault(page)


def test_it_is_deleted_only_after_a_question_and_brought_back(page: Page, address: str):
    open_page(page, f"{address}/library")
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("“mine” was deleted.")).to_be_visible(timeout=MINUTE)
    expect(page.get_by_text("Nothing yet.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("1 of 1 rows")).to_be_visible(timeout=MINUTE)
    no_fault(page)


def test_its_structure_is_laid_open(page: Page, address: str):
    open_page(page, f"{address}/library")
    page.get_by_role("link", name="Show its structure").click()
    expect(page.get_by_test_id("stMetricValue").first).to_have_text("80.0 %", timeout=MINUTE)
    expect(page.locator(".js-plotly-plot").first).to_contain_text("mine: ResNet20, GMP 80 %", timeout=MINUTE)
    no_fault(page)


def test_two_epochs_of_finetuning_keep_its_mask(page: Page, address: str, checkpoint, tmp_path):
    open_page(page, f"{address}/finetune?backbone=mine:+ResNet20,+GMP+80+%25&epochs=2&training_precision=fp32")
    page.get_by_role("button", name="Start finetuning").click()
    expect(page.get_by_role("link", name="Show on Tradeoffs")).to_be_visible(timeout=2 * MINUTE)
    violations = page.get_by_test_id("stMetric").filter(has_text="Mask violations")
    expect(violations.get_by_test_id("stMetricValue")).to_have_text("0")
    with page.expect_download(timeout=MINUTE) as download:
        page.get_by_role("button", name="Weights (safetensors)").click()
    download.value.save_as(tmp_path / "network.safetensors")
    saved = load_file(tmp_path / "network.safetensors")
    assert all((saved[name][~kept] == 0).all() for name, kept in checkpoint[1].tensors.items())
    assert not torch.equal(saved["conv1.weight"], torch.load(checkpoint[0])["state_dict"]["module.conv1.weight"])
    page.get_by_role("button", name="Make ONNX").click()
    expect(page.get_by_role("button", name=re.compile("ONNX, .* MB"))).to_be_visible(timeout=MINUTE)
    no_fault(page)


def test_the_run_is_among_the_runs_and_on_tradeoffs(page: Page, address: str):
    open_page(page, f"{address}/runs")
    expect(page.get_by_text("1 of 1 rows")).to_be_visible(timeout=MINUTE)
    page.get_by_role("combobox", name="Selected runs").click()
    page.get_by_role("option").first.click()
    page.keyboard.press("Escape")
    violations = page.get_by_test_id("stMetric").filter(has_text="Mask violations")
    expect(violations.get_by_test_id("stMetricValue")).to_have_text("0", timeout=MINUTE)
    open_page(page, f"{address}/?architecture=ResNet20&view=Pareto+front&axis=Nonzero+parameters")
    expect(page.get_by_text("No baseline for Full: GMP 80 %, your runs")).to_be_visible(timeout=MINUTE)
    expect(page.locator(".js-plotly-plot").first).to_contain_text("Nonzero parameters (million)", timeout=MINUTE)
    no_fault(page)
