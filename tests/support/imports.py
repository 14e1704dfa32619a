"""What code loads."""

import subprocess
import sys

from sparse_core.paths import REPOSITORY


def loads_torch(script: str, *arguments) -> bool:
    """Whether the script, run in a process of its own with the arguments, imports torch."""
    return "torch" in loaded(script, *arguments)


def loaded(script: str, *arguments) -> set[str]:
    """The modules that the script, run in a process of its own with the arguments, imports."""
    command = [sys.executable, "-c", f"import sys\n{script}\nprint(*sys.modules)", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())
