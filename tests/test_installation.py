"""The package that ``pip install .`` makes works in any folder, with the data that a clone has beside the code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_core import cli
from sparse_core.paths import REPOSITORY

ASKED = ["summary", "--architecture", "resnet50", "--transfer", "linear", "--json"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
    ]
    subprocess.run([*pip, str(REPOSITORY)], check=True, cwd=target)
    return target


def run(installed: Path, folder: Path, *arguments: str) -> str:
    """What the installed ``sparse-transfer`` prints, called in ``folder``."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "XDG_DATA_HOME": str(folder / "data")}
    environment.pop("SPARSE_TRANSFER_HOME", None)
    command = [sys.executable, str(installed / "bin" / "sparse-transfer"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


def test_a_copied_command_gives_the_same_figures_in_another_folder(installed, tmp_path, home, capsys) -> None:
    assert cli.main(ASKED) == 0
    assert json.loads(run(installed, tmp_path, *ASKED)) == json.loads(capsys.readouterr().out)


def test_it_holds_the_zoo_and_the_dashboard(installed, tmp_path) -> None:
    names = {card["name"] for card in json.loads(run(installed, tmp_path, "backbones", "--json"))}
    assert {file.stem for file in (REPOSITORY / "data" / "zoo").glob("*.safetensors")} <= names
    of_clone = {file.relative_to(REPOSITORY) for file in (REPOSITORY / "pages").rglob("*.py")}
    root = installed / "sparse_core" / "installed"
    assert of_clone <= {file.relative_to(root) for file in root.rglob("*.py")}
    assert (root / ".streamlit" / "config.toml").is_file()


def test_its_own_state_goes_to_the_users_folder(installed, tmp_path) -> None:
    run(installed, tmp_path, "rebuild", "--json")
    assert (tmp_path / "data" / "sparse-transfer-lab").is_dir()
    assert not (installed / "sparse_core" / "installed" / "data" / "local").exists()
