"""``python -m sparse_core``."""

import sys

from sparse_core.cli import main

sys.exit(main())
