"""Private names of Streamlit and Plotly that the pages rely on still exist in the installed versions."""

from pathlib import Path

import plotly
import pytest
import streamlit as st

from pages.parts import streamlit_internals


def test_the_chart_script_has_its_name():
    found = streamlit_internals.chart_scripts()
    assert found, "Streamlit renamed its chart script: charts no longer load early, a new server's first page is slower"


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        (streamlit_internals.MAIN_BLOCK, "pages get Streamlit's wide space above them again"),
        (streamlit_internals.PRIMARY_BUTTON.removesuffix("primary"), "its text is hard to read on the dark theme"),
        (streamlit_internals.CHOSEN, "chosen values are hard to read on the dark theme"),
        (streamlit_internals.WIDGET_LABEL, "help stands at the far end of wide controls"),
        (streamlit_internals.HELP_ICON, "help stands at the far end of wide controls"),
    ],
)
def test_parts_of_a_page_have_their_names(name, lost):
    scripts = (Path(st.__file__).parent / "static" / "static" / "js").glob("*.js")
    assert any(name in script.read_text(encoding="utf-8") for script in scripts), f"Streamlit renamed {name}: {lost}"


@pytest.mark.parametrize("layer", streamlit_internals.CHART_TEXT_LAYERS)
def test_text_layers_of_charts_have_their_classes(layer):
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    found = layer.removesuffix("-above") in script.read_text(encoding="utf-8")  # Plotly appends it
    assert found, f"Plotly renamed {layer}: its text is grey, hard to read on white"
