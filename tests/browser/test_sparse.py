"""Sparse networks in a real Chromium: a user's own, imported, inspected, and finetuned with its mask kept; and one made here."""

import re
from urllib.parse import urlencode

import pytest
import torch
from playwright.sync_api import Page, expect
from safetensors.torch import load_file

from sparse_core.networks import library
from sparse_core.paths import REPOSITORY
from tests.browser import served
from tests.browser.served import MINUTE, assert_no_error, choose, delete_and_undo, first_chart, open_page
from tests.support.networks import pruned_state


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A dashboard whose workers compute on one thread: for so small a network, two threads are slower than one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with served.dashboard(tmp_path_factory.mktemp("home")) as address:
            yield address


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A CIFAR ResNet20 of 10 classes as a training script would save it, and its state."""
    state = pruned_state(0.8)
    file = tmp_path_factory.mktemp("checkpoint") / "my-resnet20.pth.tar"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}, file)
    return file, state


def test_a_checkpoint_is_imported_into_the_library(page: Page, address: str, checkpoint):
    open_page(page, f"{address}/library")
    page.locator("input[type=file]").set_input_files(checkpoint[0])
    expect(page.get_by_text("Format: nested, DataParallel, CIFAR ResNet; variant A.")).to_be_visible(timeout=MINUTE)
    expect(first_chart(page)).to_contain_text("Sparsity by layer", timeout=MINUTE)
    page.get_by_label("Name", exact=True).fill("mine")
    choose(page, "Pruning method", "GMP")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("“mine” is in the library.")).to_be_visible(timeout=MINUTE)
    assert_no_error(page)


def test_it_is_deleted_after_confirmation_and_restored(page: Page, address: str, tmp_path):
    open_page(page, f"{address}/library")
    zoo = list((REPOSITORY / "data" / "zoo").glob("*.safetensors"))
    rows = 1 + len(zoo) + sum(card.kind == "offline" for card in library.available(tmp_path))
    delete_and_undo(page, f"{rows} of {rows} rows", "“mine” was deleted.", "Nothing of your own yet.")


def test_its_structure_is_shown(page: Page, address: str):
    open_page(page, f"{address}/library")
    page.get_by_role("link", name="Show its structure").click()
    expect(page.get_by_test_id("stMetricValue").first).to_have_text("80.0 %", timeout=MINUTE)
    expect(first_chart(page)).to_contain_text("mine: ResNet20, GMP 80 %", timeout=MINUTE)
    assert_no_error(page)


def test_two_epochs_of_finetuning_keep_its_mask(page: Page, address: str, checkpoint, tmp_path):
    open_page(page, f"{address}/finetune?backbone=mine:+ResNet20,+GMP+80+%25&epochs=2&training_precision=fp32")
    page.get_by_role("button", name="Start finetuning").click()
    expect(page.get_by_role("link", name="Show on Tradeoffs")).to_be_visible(timeout=4 * MINUTE)
    violations = page.get_by_test_id("stMetric").filter(has_text="Mask violations")
    expect(violations.get_by_test_id("stMetricValue")).to_have_text("0")
    with page.expect_download(timeout=MINUTE) as download:
        page.get_by_role("button", name="Weights (safetensors)").click()
    download.value.save_as(tmp_path / "network.safetensors")
    saved = load_file(tmp_path / "network.safetensors")
    pruned = {name: tensor == 0 for name, tensor in checkpoint[1].items() if tensor.dim() == 4}
    assert all((saved[name][zeros] == 0).all() for name, zeros in pruned.items())
    assert not torch.equal(saved["conv1.weight"], torch.load(checkpoint[0])["state_dict"]["module.conv1.weight"])
    page.get_by_role("button", name="Make ONNX").click()
    expect(page.get_by_role("button", name=re.compile("ONNX, .* MB"))).to_be_visible(timeout=MINUTE)
    assert_no_error(page)


def test_the_run_is_shown_on_runs_and_tradeoffs(page: Page, address: str):
    open_page(page, f"{address}/runs")
    expect(page.get_by_text("1 of 1 rows")).to_be_visible(timeout=MINUTE)
    page.get_by_role("combobox", name="Selected runs").click()
    page.get_by_role("option").first.click()
    page.keyboard.press("Escape")
    violations = page.get_by_test_id("stMetric").filter(has_text="Mask violations")
    expect(violations.get_by_test_id("stMetricValue")).to_have_text("0", timeout=MINUTE)
    open_page(page, f"{address}/?architecture=ResNet20&view=Pareto+front&axis=Nonzero+parameters")
    expect(page.get_by_text("No baseline for Full: GMP 80 %, your runs")).to_be_visible(timeout=MINUTE)
    expect(first_chart(page)).to_contain_text("Nonzero parameters (million)", timeout=MINUTE)
    assert_no_error(page)


def test_a_network_is_made_from_the_button_to_its_probe(page: Page, address: str, images: str):
    asked = {"epochs": 2, "images": 1, "rate": 0.001, "sparsities": 80, "upstream_path": images}
    asked |= {"upstream": "My own folder or Parquet file"}
    open_page(page, f"{address}/sparsify?{urlencode(asked)}")
    page.get_by_role("button", name="Start sparsifying").click(timeout=MINUTE)
    expect(page.get_by_role("heading", name="AC/DC 80 %, seed 0 from ResNet20")).to_be_visible(timeout=MINUTE)
    sparsity = page.get_by_test_id("stMetric").filter(has_text="Sparsity").get_by_test_id("stMetricValue")
    expect(sparsity).to_have_text("80 %", timeout=4 * MINUTE)
    expect(first_chart(page)).to_contain_text("dashed: target sparsity", timeout=MINUTE)
    expect(page.get_by_text("1 of 1 rows")).to_be_visible(timeout=MINUTE)
    page.get_by_role("link", name="Probe it").first.click()
    chosen = page.get_by_role("combobox", name="Backbone").first
    expect(chosen).to_have_value("resnet20-ACDC-80-seed0: ResNet20, AC/DC 80 %", timeout=MINUTE)
    assert_no_error(page)
