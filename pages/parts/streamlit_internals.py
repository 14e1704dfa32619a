"""Names of Streamlit's and Plotly's own that are no public interface: all of them, and why each is needed.

``tests/pages/test_streamlit_internals.py`` says what stops working when a new version renames one.
"""

from pathlib import Path

import streamlit as st

MAIN_BLOCK = "stMainBlockContainer"
PRIMARY_BUTTON, CHOSEN = "stBaseButton-primary", "stMultiSelectTagsContainer"
WIDGET_LABEL, HELP_ICON = "stWidgetLabel", "stTooltipIcon"
CHART_TEXT_LAYERS = ("infolayer", "xaxislayer-above", "yaxislayer-above", "hoverlayer")
CHART_SCRIPTS = "PlotlyChart.*.js"

_EARLY = "early"  # the key of a container, which Streamlit makes the class st-key-early

# The root's text, and all text with it, has the size that the user chose in the browser: Streamlit sets 16 pixels. Less space
# above the page: a narrow bar is all that stands there. Help stands beside the label, not at the far end of a wide
# control. What is written on the primary colour is dark on the dark theme, where white has a contrast of 2.3 : 1. Text in charts
# takes the page's text colour in both themes: Plotly's grey is hard to read on white.
STYLE = f"""
<style>
html {{ font-size: 100%; }}
.{MAIN_BLOCK} {{ padding-top: 4.5rem; }}
[data-testid="{WIDGET_LABEL}"] > :has(> .{HELP_ICON}) {{ justify-content: flex-start; margin-left: 0.4rem; }}
:is([data-testid^="{PRIMARY_BUTTON}"]:enabled, [data-testid="{CHOSEN}"] [data-tag]),
:is([data-testid^="{PRIMARY_BUTTON}"]:enabled, [data-testid="{CHOSEN}"] [data-tag]) * {{
  color: light-dark(#fff, #08131c);
}}
.js-plotly-plot :is({", ".join(f".{layer}" for layer in CHART_TEXT_LAYERS)}) text {{
  fill: currentColor !important;
}}
.st-key-{_EARLY} {{ display: none; }}
</style>
"""


def chart_scripts() -> list[str]:
    """The file names of the scripts with which Streamlit draws Plotly charts; empty if a version names them otherwise."""
    return [file.name for file in (Path(st.__file__).parent / "static" / "static" / "js").glob(CHART_SCRIPTS)]


def load_charts_early() -> None:
    """Have the browser load Streamlit's copy of Plotly while the server still imports what the page needs.

    Without this the download starts when the first chart arrives, which makes a new server's first page half a second
    slower.
    """
    script = "".join(f"import('./static/js/{name}');" for name in chart_scripts())
    with st.container(key=_EARLY):
        st.html(f"<script type='module'>{script}</script>", unsafe_allow_javascript=True)
