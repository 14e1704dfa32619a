"""Report: saved views with notes as one HTML file to send."""

from datetime import date
from urllib.parse import urlencode

import streamlit as st

from pages.parts import choices, frame, links
from pages.parts.frame import home
from pages.parts.results import open_store
from sparse_core.results import saved_views
from sparse_core.results.saved_views import SavedView
from sparse_core.views import report


def main() -> None:
    """Which views, a note on each, what stands around them, and the file."""
    open_store()
    kept = {f"{view.name} ({_title(view)})": view for view in saved_views.views(home()) if view.page in report.PAGES}
    if not kept:
        pages = [each.title for each in frame.PAGES if each.name in report.PAGES]
        st.info(
            f"No views are saved yet. On {', '.join(pages[:-1])} or {pages[-1]} open Views, give the view a name and save it; "
            "then put it into a report here."
        )
        return
    chosen = choices.multiselect(
        "Views", list(kept), key="report_views", help="In this order. Views on a page saves one."
    )
    title = st.text_input("Title", report.About.title, key="report_title")
    hypothesis = st.text_area("Hypothesis", key="report_hypothesis", placeholder="What did you expect?")
    notes = [st.text_area(f"Note on {frame.plain(name)}", key=f"report_note_{name}") for name in chosen]
    conclusion = st.text_area("Conclusion", key="report_conclusion", placeholder="What do the results say?")
    if not chosen:
        st.info("Choose one or more views.")
        return
    views = [report.View(_link(kept[name]), note or "") for name, note in zip(chosen, notes, strict=True)]
    about = report.About(title or report.About.title, hypothesis or "", conclusion or "")
    links.report_file(views, about, f"report-{date.today():%Y-%m-%d}.html", key="report_page")
    st.caption(
        "One file of about 5 MB with interactive charts and tables. It opens without a network and asks for nothing."
    )


def _title(view: SavedView) -> str:
    return next((each.title for each in frame.PAGES if each.name == view.page), view.page)


def _link(view: SavedView) -> str:
    return f"/{view.page}?{urlencode(view.query, doseq=True)}"


main()
