"""The frame around the pages: errors are shown as one sentence, and the serving process never imports torch."""

import errno
import subprocess
import sys

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import buttons
from pages.parts.frame import PAGES, plain
from sparse_core.paths import REPOSITORY
from sparse_core.results.records import Records
from tests.pages.support import open_app


@pytest.mark.parametrize("refusal", ["file", "full"])
def test_a_home_that_cannot_be_used_is_one_sentence(refusal, home, monkeypatch):
    message = f"SPARSE_TRANSFER_HOME takes a folder; got the file {home}"
    if refusal == "file":
        home.write_text("")
    else:
        message = "Expected free disk space for the file, but the disk is full"
        monkeypatch.setattr(Records, "fingerprint", lambda _: no_space())
    app = AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=60).run()
    assert not app.exception
    (error,) = app.error
    assert error.value.startswith(plain(message))


def no_space():
    raise OSError(errno.ENOSPC, "No space left on device")


def test_pages_that_show_results_leave_torch_alone(home) -> None:
    script = (
        "import sys; from streamlit.testing.v1 import AppTest\n"
        "app = AppTest.from_file('app.py', default_timeout=60).run()\n"
        "app.switch_page('pages/tasks.py').run()\n"
        "assert not app.exception and len(app.get('plotly_chart')) == 1\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'scipy.stats'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=REPOSITORY)


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_pages_import_no_torch(page):
    script = (
        "import sys; from streamlit.testing.v1 import AppTest; from sparse_core.jobs import queue;"
        "import streamlit; streamlit.page_link = lambda *_, **__: None;"
        "queue.ensure_worker = lambda *_: 0;"
        f"app = AppTest.from_file('pages/{page}.py', default_timeout=60); app.session_state['framed'] = True; app.run();"
        "assert not app.exception; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_installation_that_cannot_be_written_serves_plotly_from_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(buttons, "STATIC", tmp_path / "read-only")
    buttons.provide_plotly()
    given = {}
    monkeypatch.setattr(buttons, "_chart_buttons", lambda **settings: given.update(settings))
    buttons.chart_files(go.Figure(), key="k", file="n", alt="a", scale=1.0)
    assert given["data"]["plotly"].startswith("/component/pages.parts.buttons.sparse_transfer_plotly/plotly.min.js")
    assert (buttons.PLOTLY_FILES / buttons.SCRIPT).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_headed_by_its_title_and_what_it_answers(page, home, no_worker, monkeypatch):
    monkeypatch.setattr("streamlit.page_link", lambda *_, **__: None)
    app = open_app(page.name)
    assert [title.value for title in app.title] == [page.title]
    assert page.answers in [text.value for text in app.markdown]
