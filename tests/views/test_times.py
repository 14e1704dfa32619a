"""Times in the user's zone: stored in UTC, shown in local time with the zone said."""

import time
from datetime import timedelta

import pandas as pd
import pytest

from sparse_core.views import columns, times

ZONES = {
    "Asia/Tokyo": ("UTC+9", 9),
    "UTC": ("UTC", 0),
    "<-0330>3:30": ("UTC−3:30", -3.5),
    "Asia/Kolkata": ("UTC+5:30", 5.5),
}


@pytest.fixture(params=ZONES)
def zone(request, monkeypatch):
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield ZONES[request.param]
    monkeypatch.undo()
    time.tzset()


def test_stored_times_are_shown_in_local_time_with_the_zone(zone):
    name, hours = zone
    assert times.zone() == name and times.offset() == timedelta(hours=hours)
    assert times.local("2026-01-31T20:00:00") == pd.Timestamp("2026-01-31 20:00") + timedelta(hours=hours)
    assert times.day("2026-01-31T20:00:00") == ("2026-02-01" if hours > 4 else "2026-01-31")
    stored = pd.DataFrame({"created_at": [pd.Timestamp("2026-01-31 20:00"), pd.NaT]})
    shown = columns.for_display(stored)["created_at"]
    assert shown[0] == times.local("2026-01-31 20:00") and pd.isna(shown[1])
    assert stored["created_at"][0] == pd.Timestamp("2026-01-31 20:00")
