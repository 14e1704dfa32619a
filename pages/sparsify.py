"""Sparsify: make sparse backbones by any pruning method, alone or by the dozen."""

import streamlit as st

from pages.parts import choices, links, made_networks, prune_downstream, sparsify_form, sparsify_jobs
from pages.parts.frame import home
from pages.parts.results import open_store
from sparse_core.jobs import queue
from sparse_core.networks import library
from sparse_core.views import labels, sparsified

BUTTON = "Start sparsifying"


def main() -> None:
    """The form, the progress and the networks of what was started, and the tabs with all networks made here."""
    store = open_store()
    st.markdown(
        "**Make sparse backbones.** Choose pruning methods and sparsities; each network goes into the library with how it was "
        "made, and can then be probed, finetuned and timed."
    )
    queue.ensure_worker(home(), "long")  # loads torch before the button is pressed
    _start()
    jobs = sparsify_jobs.shown_jobs()
    above = sparsify_jobs.show(jobs, BUTTON) if jobs else ""
    made = sparsified.made_here(library.cards(home()))
    tabs = {
        "Made here": lambda: made_networks.overview(made, above),
        "Prune downstream": lambda: prune_downstream.comparison(store, made),
    }
    choices.tabs("part", tabs)


def _start() -> None:
    request = sparsify_form.controls()
    if request is None:
        st.button(BUTTON, type="primary", icon=":material/play_arrow:", disabled=True)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(BUTTON, type="primary", icon=":material/play_arrow:"):
            st.query_params["job"] = [queue.submit(home(), job) for job in request.jobs]
        if len(request.jobs) > 1:
            st.markdown(f"**{labels.counted(len(request.jobs), 'network')}**", width="content")
        links.share(request.command)
        sparsify_jobs.time_estimate(request)


main()
