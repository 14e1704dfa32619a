"""The serving process never imports torch, and the pages of results no other slow package either."""

import subprocess
import sys

import pytest

from pages.parts.frame import PAGES
from sparse_core.paths import REPOSITORY


def test_pages_that_show_results_leave_torch_alone(home) -> None:
    script = (
        "import sys; from streamlit.testing.v1 import AppTest\n"
        "app = AppTest.from_file('app.py', default_timeout=60).run()\n"
        "app.switch_page('pages/tasks.py').run()\n"
        "assert not app.exception and len(app.get('plotly_chart')) == 1\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=REPOSITORY)


@pytest.mark.parametrize("page", [name for name, _, _ in PAGES])
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
