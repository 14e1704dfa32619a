"""Views saved by name: a popover that lists them, saves the present one and deletes."""

import streamlit as st

from pages.parts import frame
from pages.parts.frame import home
from sparse_core.errors import InputError
from sparse_core.results import saved_views
from sparse_core.results.saved_views import SavedView

SHOWN = 50


def popover(page: str) -> None:
    """The saved views of ``page``, each a link, and a field that saves the present one under a name."""
    help_text = "Everything that is chosen on this page, kept under a name"
    shown = st.popover("Views", icon=":material/bookmark:", key="views", on_change="rerun", help=help_text)
    if not shown.open:
        return
    views = list({view.name: view for view in saved_views.views(home())}.values())
    with shown:
        for view in [view for view in views if view.page == page][:SHOWN]:
            _view(view)
        others = [view for view in views if view.page != page]
        if others:
            st.caption("Of other pages")
        for view in others[:SHOWN]:
            _view(view)
        with st.form("save_view", border=False):
            name = st.text_input("Name of the present view", placeholder="for example AC/DC on Pets")
            if st.form_submit_button("Save view", icon=":material/bookmark_add:"):
                _save(page, name or "")


def _view(view: SavedView) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link(f"pages/{view.page}.py", label=frame.plain(view.name), query_params=view.query)
        if st.button("Delete", key=f"delete_view_{view.name}", type="tertiary", icon=":material/delete:"):
            saved_views.forget(home(), view.name)
            st.rerun()


def _save(page: str, name: str) -> None:
    query = {each: st.query_params.get_all(each) for each in st.query_params}
    try:
        saved_views.keep(home(), SavedView(name.strip(), page, query))
    except InputError as error:
        st.error(frame.plain(str(error)))
        return
    st.rerun()
