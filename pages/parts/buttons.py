"""What runs in the browser: the preview and the files of an exported chart, and the field with the link to a view."""

import shutil
from contextlib import suppress
from pathlib import Path

import plotly
import plotly.graph_objects as go
import streamlit as st
from streamlit.components.v1 import declare_component

from pages.parts.frame import STATIC
from sparse_core.views.charts import captions

PLOTLY_FILES = Path(plotly.__file__).parent / "package_data"
SCRIPT = "plotly.min.js"

_CHART_BUTTONS = """
<figure><img alt=""></figure>
<div role="group" aria-label="Download this chart">
  <button type="button" data-format="png" title="Image, 300 pixels per inch">PNG</button>
  <button type="button" data-format="svg" title="Vector image for print">SVG</button>
  <button type="button" data-format="html" title="Stand-alone interactive page">HTML</button>
  <span role="status"></span>
</div>
"""

_BUTTON_STYLE = """
figure { flex: 1 0 100%; margin: 0 0 .75rem; min-height: 8rem; border: 1px solid var(--st-border-color); }
figure img { display: block; max-width: 100%; max-height: 32rem; margin: 0 auto; }
div { display: flex; gap: .5rem; align-items: center; flex-wrap: wrap; }
button {
  font: inherit; font-size: .875rem; line-height: 1.4; padding: .25rem .75rem; min-height: 2.5rem; cursor: pointer;
  color: var(--st-text-color); background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius, .5rem);
}
button:hover, button:focus-visible { color: var(--st-primary-color); border-color: var(--st-primary-color); }
button:disabled { opacity: .5; cursor: progress; }
input {
  font: inherit; font-size: .875rem; flex: 1; min-width: 12rem; padding: .4rem; min-height: 2.5rem;
  color: var(--st-text-color); background: var(--st-secondary-background-color);
  border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius, .5rem);
}
span { font-size: .875rem; color: var(--st-text-color); }
"""

# Plotly is loaded on the first click, from this server: a component cannot reach the copy that the page uses.
_CHART_SCRIPT = """
function plotly(address) {
  window.sparseTransferPlotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => { delete window.sparseTransferPlotly; reject(new Error("not reachable")); };
    document.head.append(script);
  });
  return window.sparseTransferPlotly;
}

function save(address, name) {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
}

async function page({ magnified: figure, plotly, title }) {
  const script = await (await fetch(plotly)).text();
  const heading = document.createElement("title");
  heading.textContent = title;
  const json = figure.replaceAll("<", "\\\\u003c");
  const background = JSON.parse(figure).layout.template.layout.paper_bgcolor;
  const style = `body { margin: 0; background: ${background}; }`;
  return `<!doctype html><html lang="en"><head><meta charset="utf-8">${heading.outerHTML}<style>${style}</style>
<script>${script}</script></head><body><div id="chart"></div><script>const figure = ${json};
Plotly.newPlot("chart", figure.data, figure.layout, { displaylogo: false });</script></body></html>`;
}

async function image(data, format, scale) {
  const size = { width: data.width, height: data.height, scale };
  return (await plotly(data.plotly)).toImage(JSON.parse(data.figure), { format, ...size });
}

async function download(format, data) {
  const name = `${data.name}.${format}`;
  if (format === "html") {
    const file = new Blob([await page(data)], { type: "text/html" });
    const address = URL.createObjectURL(file);
    save(address, name);
    setTimeout(() => URL.revokeObjectURL(address), 60000);
    return;
  }
  save(await image(data, format, format === "png" ? data.scale * 300 / 96 : data.scale), name);
}

export default function ({ data, parentElement }) {
  const status = parentElement.querySelector("[role=status]");
  const failed = () => {
    status.textContent = "The chart could not be made: is the dashboard still running? Reload the page and try again.";
  };
  const preview = parentElement.querySelector("img");
  preview.alt = data.title;
  image(data, "svg", data.scale).then((address) => { preview.src = address; }, failed);
  for (const button of parentElement.querySelectorAll("button")) {
    button.onclick = async () => {
      button.disabled = true;
      status.textContent = "";
      try {
        await download(button.dataset.format, data);
      } catch (error) {
        failed();
      }
      button.disabled = false;
    };
  }
}
"""

_LINK_FIELD = """
<div>
  <input readonly aria-label="Link to this view">
  <button type="button">Copy link</button>
  <span role="status"></span>
</div>
"""

_LINK_SCRIPT = """
export default function ({ parentElement }) {
  const field = parentElement.querySelector("input");
  const status = parentElement.querySelector("[role=status]");
  const show = () => { field.value = window.location.href; };
  show();
  const timer = setInterval(show, 500);
  field.onfocus = () => field.select();
  parentElement.querySelector("button").onclick = async () => {
    show();
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      status.textContent = "Copied.";
    } catch {
      status.textContent = "Press Ctrl+C to copy.";
    }
  };
  return () => clearInterval(timer);
}
"""

_chart_buttons = st.components.v2.component(
    "sparse_transfer_chart_buttons", html=_CHART_BUTTONS, css=_BUTTON_STYLE, js=_CHART_SCRIPT
)
_plotly_files = declare_component("sparse_transfer_plotly", path=str(PLOTLY_FILES))
_link_field = st.components.v2.component("sparse_transfer_link", html=_LINK_FIELD, css=_BUTTON_STYLE, js=_LINK_SCRIPT)


def chart_files(figure: go.Figure, *, key: str, file: str, alt: str, scale: float) -> None:
    """A preview of a figure of fixed size, and the buttons that save it as PNG, SVG and stand-alone HTML, ``scale`` times as
    large. ``file`` is the files' name without ending, ``alt`` what a screen reader reads."""
    base = st.get_option("server.baseUrlPath").strip("/")
    place = "app/static" if (STATIC / SCRIPT).is_file() else f"component/{_plotly_files.name}"
    address = f"{f'/{base}' if base else ''}/{place}/{SCRIPT}?version={plotly.__version__}"
    data = {"figure": figure.to_json(), "title": alt, "name": file, "plotly": address, "scale": scale}
    data |= {"width": figure.layout.width, "height": figure.layout.height}
    data |= {"magnified": captions.magnified(figure, scale).to_json()}
    _chart_buttons(key=key, data=data)


def link_field(*, key: str) -> None:
    """The link to the current view, with a button that copies it."""
    _link_field(key=key)


def provide_plotly() -> None:
    """Copy Plotly's script to where this server can serve it; charts for download are drawn with it. An installation that
    cannot be written serves it from Plotly's own folder."""
    source, target = PLOTLY_FILES / SCRIPT, STATIC / SCRIPT
    if not target.exists() or target.stat().st_size != source.stat().st_size:
        with suppress(OSError):
            temporary = STATIC / f".{SCRIPT}"
            shutil.copyfile(source, temporary)
            temporary.replace(target)
