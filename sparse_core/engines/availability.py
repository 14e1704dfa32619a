"""Which engines can run here. Needs no torch."""

import importlib.util
import platform
import sys

from sparse_core.catalog import ENGINES
from sparse_core.errors import unknown_name
from sparse_core.paths import REPOSITORY

DEEPSPARSE = REPOSITORY / ".venv-deepsparse"  # its environment


def missing(name: str) -> str | None:
    """Why the engine cannot run here and how to get it, in one line; None if it can. Raises InputError for an unknown name."""
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    if name != "deepsparse":
        found = importlib.util.find_spec(name)
        return None if found else f"{ENGINES[name]} is not installed. 'make run' installs it."
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"DeepSparse runs on Linux with an x86-64 processor only; this is {platform.system()} on {platform.machine()}."
    if (DEEPSPARSE / ".ready").is_file():
        return None
    if (DEEPSPARSE / ".failed").is_file():
        return f"Setting up DeepSparse failed ({DEEPSPARSE / 'log.txt'} says why); 'make deepsparse' tries again."
    return "DeepSparse is not set up. 'make deepsparse' does it, given a Python from 3.9 to 3.11 (PYTHON=… names one)."
