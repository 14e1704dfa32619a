"""Deleting with a question before it, and undoing it afterwards."""

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from pages.parts import frame


def confirm(
    title: str, text: str, delete: Callable[[], None], state: Mapping[str, Any], button: str = "Delete"
) -> None:
    """Ask in a dialog; if the user confirms, ``delete``, set ``state`` in the session's and run the page again."""

    @st.dialog(title)
    @frame.errors_as_messages()
    def ask() -> None:
        st.markdown(frame.plain(text))
        if st.button(button, type="primary"):
            delete()
            st.session_state.update(state)
            st.rerun()

    ask()


def offer_undo(key: str, message: str, restore: Callable[..., object]) -> None:
    """The message that something was deleted, with a button that restores it; the session's state names it, or a list of several,
    under ``key``."""
    deleted = st.session_state.get(key)
    if deleted:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.info(frame.plain(message))
            if st.button("Undo", icon=":material/undo:", key=f"undo_{key}"):
                undo(key, deleted, restore)


@frame.errors_as_messages()
def undo(key: str, deleted: str | list[str], restore: Callable[..., object]) -> None:
    """Restore what was deleted, and run the page again; an error is shown where the button was."""
    restore(*([deleted] if isinstance(deleted, str) else deleted))
    st.session_state.pop(key, None)
    st.rerun()
