"""Times for the user: stored in UTC, shown in this machine's local time, with the zone said.

All are shown at the offset from UTC that holds now, so that one zone is true of a whole table.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd


def offset() -> timedelta:
    """How far this machine's clock is ahead of UTC now."""
    return datetime.now(UTC).astimezone().utcoffset() or timedelta()


def zone() -> str:
    """The zone in which times are shown, such as UTC, UTC+9 or UTC−3:30."""
    minutes = round(offset().total_seconds() / 60)
    hours, rest = divmod(abs(minutes), 60)
    sign = "+" if minutes > 0 else "−"
    return f"UTC{sign}{hours}{f':{rest:02d}' if rest else ''}" if minutes else "UTC"


def local(stored: Any) -> pd.Timestamp:
    """A stored time, in UTC, as local time without a zone."""
    return pd.Timestamp(stored) + offset()


def day(stored: Any) -> str:
    """The local day of a stored time, such as 2026-01-31."""
    return f"{local(stored):%Y-%m-%d}"
