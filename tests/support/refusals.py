"""Refusals: an InputError of one line."""

import pytest

from sparse_core.errors import InputError


def refused(function, *arguments, match: str | None = None, **named) -> str:
    """The message of the InputError that the call raises, after checking that it is one line and contains the pattern."""
    with pytest.raises(InputError, match=match) as caught:
        function(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)
