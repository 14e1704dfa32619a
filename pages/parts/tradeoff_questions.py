"""Tabs of Tradeoffs for questions beyond the main comparison, each where there are rows to answer it."""

from datetime import date

import pandas as pd
import streamlit as st

from pages.parts.results import show_chart, show_table
from pages.parts.tradeoff_controls import Controls
from sparse_core.catalog import architecture_label
from sparse_core.results import questions
from sparse_core.results.questions import Question
from sparse_core.views import footnotes, labels
from sparse_core.views import questions as views
from sparse_core.views.charts import comparison as charts

MOST_SHOWN = 24  # rows of the chart
TASK_COLUMNS = ["row", "task", "setting_difference", "low", "high", "runs"]


def show(question: Question, controls: Controls, rows: pd.DataFrame) -> None:
    """The question, what its setting changes on average, and the tables by task."""
    st.markdown(question.text)
    found = questions.answer(rows, question, controls.accuracy)
    if found.means.empty:
        st.info(
            "No task has two settings of one selected network. Clear the selection above, or run the missing probes."
        )
        return
    means = views.means(found)
    grid, tasks = views.grid(found)
    shown = means.head(MOST_SHOWN)
    key = question.title.lower().replace(" ", "_")
    name = f"{key.replace('_', '-')}-{controls.architecture}"
    more = f" · the first {len(shown)} of {len(means)}" if len(shown) < len(means) else ""
    show_chart(
        charts.means_over_tasks(
            shown,
            grid,
            tasks,
            dict(zip(means["name"], means["method"], strict=True)),
            "Accuracy difference (points)",
            "points",
        ),
        question.title,
        f"{architecture_label(controls.architecture)} · mean difference and 95 % interval (t, over tasks) over "
        f"{labels.counted(len(grid), 'task')} · faint points are tasks · right of the line is more accurate{more}",
        footnotes.caption(rows, [], footnotes.row_notes(rows), controls.accuracy, date.today()),
        key=f"{key}_chart",
        name=name,
        alt=f"{question.text} Mean difference of accuracies of each pair of settings, with its interval",
        table=shown[views.COLUMNS],
    )
    show_table(views.tasks(found), key=key, name=name, shown_columns=TASK_COLUMNS)
