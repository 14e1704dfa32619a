"""Sparsify: make sparse backbones by any pruning method, alone or by the dozen."""

from pages.parts import (
    choices,
    form_settings,
    frame,
    made_networks,
    prune_downstream,
    sparsify_form,
    sparsify_progress,
    sweep_start,
)
from pages.parts.frame import home
from pages.parts.results import open_store
from sparse_core.jobs import queue
from sparse_core.networks import library
from sparse_core.views import sparsified

BUTTON = "Start sparsifying"


def main() -> None:
    """The form, the progress and the networks of what was started, and the tabs with all networks made here."""
    store = open_store()
    queue.ensure_worker(home(), "long")  # loads torch before the button is pressed
    form_settings.take_from_link("sparsify", "probe", "finetune", "finetune_detector")
    with frame.errors_as_messages():  # what is wrong in the form must not hide what runs
        request = sparsify_form.controls()
        if request is None:
            sweep_start.start_row(store, BUTTON, None)
        else:
            sweep_start.start_row(store, BUTTON, request.plan, request.command)
    status = sparsify_progress.shown()
    above = sparsify_progress.show(store, status) if status else ""
    made = sparsified.made_here(library.cards(home()))
    tabs = {
        "Made here": lambda: made_networks.overview(made, above),
        "Prune downstream": lambda: prune_downstream.comparison(store, made),
    }
    choices.tabs("part", tabs)


main()
