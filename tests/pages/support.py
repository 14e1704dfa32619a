"""Opening pages in Streamlit's test harness, and reading what they show."""

import functools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.paths import REPOSITORY
from sparse_core.results import imported
from sparse_core.results.records import Record, Records
from sparse_core.results.store import COLUMNS
from tests.support.records import record

# Each AppTest would read the metadata of all installed packages again, in search of components: half a second of each page.
manifest_scanner.scan_component_manifests = functools.cache(manifest_scanner.scan_component_manifests)

PROTOCOL = "SGD lr 0.01, 150 epochs"


def open_app(page: str = "tradeoffs", **query: str | list[str]) -> AppTest:
    """The whole dashboard at an address."""
    app = AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=60)
    app.switch_page(f"pages/{page}.py")
    app.query_params.update(query)
    return run(app)


def open_page(page: str, state: dict[str, Any] | None = None, **query: str | list[str]) -> AppTest:
    """A page without the dashboard's frame; ``state`` is what another page left in the session."""
    app = AppTest.from_file(str(REPOSITORY / "pages" / f"{page}.py"), default_timeout=60)
    for name, value in {"framed": True, **(state or {})}.items():
        app.session_state[name] = value
    app.query_params.update(query)
    return run(app)


def run(app: AppTest) -> AppTest:
    """Run the page again; fails if it raises."""
    app.run()
    assert not app.exception, app.exception
    return app


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    return run(app)


def choose(app: AppTest, **values: Any) -> AppTest:
    """Set the widgets with these keys, all before one rerun."""
    kinds = ("selectbox", "multiselect", "number_input", "text_input", "toggle", "slider", "button_group")
    widgets = {widget.key: widget for kind in kinds for widget in app.get(kind)}
    for key, value in values.items():
        widgets[key].set_value(value)
    return run(app)


def buttons(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def figure(app: AppTest, number: int = 0) -> dict[str, Any]:
    return json.loads(app.get("plotly_chart")[number].proto.spec)


def chart_text(app: AppTest, number: int = 0) -> str:
    """Title, subtitle, caption and labels of a chart."""
    return " ".join(entry["text"].replace("<br>", " ") for entry in figure(app, number)["layout"]["annotations"])


def legend(app: AppTest, number: int = 0) -> list[str]:
    return [trace["name"] for trace in figure(app, number)["data"] if trace.get("showlegend")]


def table(app: AppTest, number: int = -1) -> pd.DataFrame:
    """A table on the page, the last by default."""
    return app.dataframe[number].value


def messages(app: AppTest) -> str:
    """All text, captions, notes and warnings of the page, as a reader sees them: without the escapes of ``frame.plain``."""
    return " ".join(shown(entry.value) for kind in (app.markdown, app.caption, app.info, app.warning) for entry in kind)


def shown(text: str) -> str:
    """A text that ``frame.plain`` escaped, as the page shows it."""
    return re.sub(r"\\([\\`*_{}\[\]()<>#+!|~$:&])", r"\1", text)


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def command_output(app: AppTest) -> Any:
    """Run the page's "copy as command" and return the JSON that it prints."""
    (command,) = [code.value for code in app.code]
    arguments = [sys.executable, "-m", "sparse_core", *shlex.split(command)[1:]]
    return json.loads(subprocess.run(arguments, capture_output=True, cwd=REPOSITORY, check=True).stdout)


def write_runs(home: Path, method: str, sparsity: float, accuracies: list[float], **changed: str) -> None:
    """Finished probes of a backbone, one per accuracy; ``changed`` may give its name as ``network``."""
    changed = {"dataset": "digits", "protocol": PROTOCOL, "dataset_hash": "0a1b2c3d", **changed}
    for seed, accuracy in enumerate(accuracies):
        made = record(sparsity=sparsity, seed=seed, best=accuracy, final=accuracy - 0.01)
        spec = {**made.spec, "dataset": changed["dataset"], "dataset_hash": changed["dataset_hash"]}
        if "network" in changed:
            spec |= {"backbone": changed["network"], "backbone_hash": f"hash of {changed['network']}"}
        result = {**made.result, "method": method, "dataset_name": changed["dataset"], "protocol": changed["protocol"]}
        result |= {"architecture": changed.get("architecture", "efficientnet_lite0")}
        name = "-".join(["linear", str(seed), method, str(sparsity), *changed.values()]).replace("/", "-")
        Records(home).write(Record(name, spec, result, made.events))


def import_results(home: Path, source: str, *, dense: bool = True) -> None:
    """Results of others: two sparse ResNet50 and, unless told otherwise, the dense one on two tasks, one seed each."""
    of = {("Dense", 0.0): 0.9, ("STR", 0.9): 0.85, ("GMP", 0.9): 0.8}
    rows = [
        {"architecture": "resnet50", "transfer": "linear", "method": method, "sparsity": sparsity, "dataset": dataset}
        | {"accuracy": accuracy - 0.1 * (dataset == "dtd"), "seed": 0}
        for (method, sparsity), accuracy in of.items()
        for dataset in ("pets", "dtd")
        if dense or sparsity
    ]
    file = home.parent / "results.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    imported.keep(home, imported.read(file, {}, source), COLUMNS)


def submitted(home: Path, kind: str | None = None) -> list[Job]:
    """The jobs in the queue, of one kind if given."""
    jobs = [queue.status(home, job_id).job for job_id in queue.queued(home)]
    return [job for job in jobs if kind in (None, job.kind)]
