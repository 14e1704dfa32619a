"""Puts into the package what a clone has beside the code: the dashboard and the data (see ``sparse_core/paths.py``).

Hatchling calls this when it builds. An editable installation uses the clone itself.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BESIDE = ("app.py", "pages", ".streamlit", "static/icon.svg", "static/logo.svg")
BESIDE += ("data/published", "data/zoo", "data/measured", "data/networks.npz", "data/digits_test_rows.txt")


class PackageFiles(BuildHookInterface):  # type: ignore[type-arg]
    """Adds ``BESIDE`` to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"].update({name: f"sparse_core/installed/{name}" for name in BESIDE})
