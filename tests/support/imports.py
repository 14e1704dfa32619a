"""Whether code loads torch."""

import subprocess
import sys

from sparse_core.paths import REPOSITORY


def loads_torch(script: str, *arguments) -> bool:
    """Whether the script, run in a process of its own with the arguments, imports torch."""
    script = f"import sys\n{script}\nprint('torch' in sys.modules)"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1] == "True"
