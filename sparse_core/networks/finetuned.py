"""Where the finetuned networks of runs are stored: ``networks/<run_id>/`` in the user's home. Needs no torch."""

from pathlib import Path

from sparse_core.errors import InputError


def file(home: Path, run_id: str, ending: str = "safetensors") -> Path:
    """The path of a run's finetuned network, whether it exists or not; ``ending`` is safetensors or onnx."""
    return home / "networks" / Path(run_id).name / f"network.{ending}"


def require(home: Path, run_id: str) -> Path:
    """The existing file of a run's finetuned network. Raises InputError if it is missing."""
    found = file(home, run_id)
    if not found.is_file():
        raise InputError(f"The finetuned network of run '{run_id}' is missing. Rerun it to create the network again.")
    return found
