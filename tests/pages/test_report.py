"""Report and Share in Streamlit's test harness."""

from pages.parts.captured import capture
from sparse_core import paths
from sparse_core.jobs import queue
from sparse_core.paths import REPOSITORY
from sparse_core.results import saved_views
from sparse_core.results.saved_views import SavedView
from sparse_core.views import report
from tests.pages.support import buttons, choose, messages, open_app, press, run


def test_saved_views_are_put_together_with_notes(home, monkeypatch):
    assert "No views are saved yet. On Tradeoffs, " in (said := messages(open_app("report"))) and "Rank" in said
    app = open_app("compare", compare_transfer="Full")
    app.session_state["views"] = True  # the popover is open
    run(app)
    field = next(each for each in app.text_input if each.label == "Name of the present view")
    field.set_value("Mine")
    press(app, "Save view")
    (view,) = saved_views.views(home)
    assert view == SavedView("Mine", "compare", {"compare_transfer": ["Full"]})
    asked = []
    monkeypatch.setattr(report, "make", lambda home, views, about: asked.append((views, about)) or "<html>")
    app = open_app("report", report_views=["Mine (Compare)"])
    app.text_area(key="report_note_Mine (Compare)").set_value("A note")
    choose(app, report_title="My title")
    press(app, "Make report")
    ((views, about),) = asked
    assert views == [report.View("/compare?compare_transfer=Full", "A note")] and about.title == "My title"
    assert "Download report" in [each.label for each in app.get("download_button")]


def test_one_view_is_a_file_from_its_share(monkeypatch):
    asked = []
    monkeypatch.setattr(report, "make", lambda home, views, about: asked.append(views) or "<html>")
    app = open_app("tasks", transfer="Full")
    press(app, "Make report")
    assert asked[0][0].page == "tasks" and asked[0][0].query == {"transfer": ["Full"]}
    assert "Make report" not in buttons(open_app("library"))


def test_a_report_says_what_its_link_names_and_the_page_does_not_have():
    found = capture("guide", {"guide_source": ["Nobody"]})
    first = found["blocks"][0]
    assert (
        first["kind"] == "error" and "an option that does not exist here" in first["text"] and "Nobody" in first["text"]
    )


def test_forms_beside_a_view_and_links_to_pages_are_no_part_of_a_report():
    texts = [block.get("text", "") for block in capture("runs", {})["blocks"]]
    assert not any("CSV or Parquet" in text for text in texts)
    table = next(block for block in capture("findings", {})["blocks"] if block["kind"] == "table")
    assert "Verdict" in table["headings"] and "View" not in table["headings"]
    assert {len(row) for row in table["rows"]} == {len(table["headings"])}


def test_a_structure_is_in_a_report_once_it_is_analysed(home, monkeypatch):
    monkeypatch.setattr(paths, "ZOO", REPOSITORY / "data" / "zoo")
    found = capture("structure", {"backbone": ["resnet20_acdc_90_s0: ResNet20, AC/DC 90 %"]})
    assert "not analysed yet" in found["blocks"][-1]["text"] and not queue.waiting(home)
    monkeypatch.setattr(paths, "SHIPPED", REPOSITORY / "data" / "measured")
    found = capture("structure", {"backbone": ["resnet20_acdc_90_s0: ResNet20, AC/DC 90 %"]})
    texts = [block.get("text", "") for block in found["blocks"]]
    assert "Backbone sparsity: 90.0 %" in texts
    assert [block["kind"] for block in found["blocks"]].count("chart") == 1
