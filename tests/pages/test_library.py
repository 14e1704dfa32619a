"""Library in Streamlit's test harness: inspection, import, refusals in one line, deleting and restoring."""

import io
import os

import pytest
import torch
from streamlit.testing.v1 import AppTest

from pages.parts.frame import plain
from sparse_core.jobs import queue, worker
from sparse_core.jobs.kinds import Job
from sparse_core.networks import importing, library, uploads
from sparse_core.specs.checkpoints import InspectSpec
from tests.pages.support import metrics, open_page, press, run


def do_what_was_asked(home, kind: str) -> str:
    """Does the one job of that kind that is queued; returns its name."""
    (job_id,) = [name for name in queue.queued(home) if queue.status(home, name).job.kind == kind]
    worker.work(home, job_id)
    return job_id


def look_into(home, path: object) -> AppTest:
    app = open_page("library", **{"from": "Path on this machine"})
    app.text_input(key="checkpoint").set_value(str(path))
    press(app, "Inspect")
    do_what_was_asked(home, "inspect")
    return run(app)


def test_an_empty_library_says_what_to_do():
    assert "Nothing yet. Upload a checkpoint file" in open_page("library").info[0].value


def test_a_file_is_looked_into_named_and_put_into_the_library(home, file):
    app = look_into(home, file)
    assert app.subheader[0].value == "my net.pth.tar"
    assert metrics(app)["Architecture"] == "ResNet20" and metrics(app)["Classes"] == "10"
    assert app.caption[0].value.startswith(plain("Format: nested, CIFAR ResNet; variant A"))
    (name,) = [field for field in app.text_input if field.label == "Name"]
    (method,) = [box for box in app.selectbox if box.label == "Pruning method"]
    (sparsity,) = app.number_input
    (upstream,) = [field for field in app.text_input if field.label == "Trained on"]
    assert (name.value, method.value, sparsity.value, upstream.value) == ("my-net", "Unknown", 50, "CIFAR-10")
    assert "Measured over its convolutions: 50.0 %" in sparsity.proto.help
    method.set_value("GMP")
    name.set_value("mine")
    press(app, "Import")
    do_what_was_asked(home, "import")
    run(app)
    assert "“mine” is in the library." in app.success[0].value
    (card,) = library.cards(home)
    assert (card.name, card.method, card.sparsity, card.origin) == ("mine", "GMP", 0.5, "my net.pth.tar")
    shelf = app.dataframe[-1].value
    assert list(shelf["name"]) == ["mine"] and shelf["measured_sparsity"].item() == pytest.approx(50, abs=0.01)
    assert file.exists()


def test_a_name_that_is_taken_is_said_and_the_file_can_be_named_anew(home, file):
    importing.add(home, file, "mine")
    app = look_into(home, file)
    (name,) = [field for field in app.text_input if field.label == "Name"]
    assert name.value == "my-net"
    name.set_value("Mine")
    press(app, "Import")
    do_what_was_asked(home, "import")
    run(app)
    assert app.error[0].value.startswith("A backbone named 'Mine' already exists")
    assert [field.label for field in app.text_input][:2] == ["Checkpoint path", "Name"]


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "0 bytes"), (b"weights", "neither safetensors nor"), (b"\xff" * 7 + b"\x7f{}", "claims a header")],
)
def test_a_file_that_cannot_be_read_is_one_line(home, tmp_path, content, told):
    (tmp_path / "bad.pth").write_bytes(content)
    app = look_into(home, tmp_path / "bad.pth")
    assert told in app.error[0].value and "\n" not in app.error[0].value
    assert not app.metric and not library.cards(home)


def test_a_path_that_leads_nowhere_is_one_line(home, tmp_path):
    app = look_into(home, f"  {tmp_path}/absent.pth ")
    assert app.error[0].value == plain(f"There is no weight file at {tmp_path}/absent.pth. Check the path.")


def test_names_in_a_file_are_shown_as_they_stand(home, state, tmp_path):
    torch.save({**state, "![x](http://a.b/c)": torch.ones(1)}, tmp_path / "*net*.pth")
    app = look_into(home, tmp_path / "*net*.pth")
    assert r"\!\[x\]\(http\://a.b/c\)" in app.error[0].value
    assert app.subheader[0].value == r"\*net\*.pth"
    assert plain("`a` <b> $x$ :red[c] ~~d~~ #e |_f_|") == (r"\`a\` \<b\> \$x\$ \:red\[c\] \~\~d\~\~ \#e \|\_f\_\|")


def test_what_does_not_fit_can_be_seen_in_full(home, file):
    job_id = queue.submit(home, Job("inspect", InspectSpec(str(file))))
    keys = {"missing": [f"layer{number}" for number in range(7)], "unexpected": ["head.weight"]}
    queue.end(home, job_id, "failed", "The weights do not fit.", {"candidates": [], "keys": keys})
    app = open_page("library", job=job_id)
    assert app.expander[0].label == "All 8 mismatched keys"
    shown = app.expander[0].dataframe[0].value
    assert list(shown["Key"]) == [*keys["missing"], "head.weight"] and set(shown["Mismatch"]) == set(keys)


def test_an_upload_that_is_refused_does_not_stay(home, state, tmp_path):
    torch.save({name: tensor for name, tensor in state.items() if name.startswith("layer1")}, tmp_path / "piece.pth")
    kept = []
    for content in (b"weights", (tmp_path / "piece.pth").read_bytes()):
        kept.append(uploads.keep(home, io.BytesIO(content), "net.pth", len(content)))
        job_id = queue.submit(home, Job("inspect", InspectSpec(str(kept[-1]))))
        worker.work(home, job_id)
        open_page("library", job=job_id)
    assert [path.exists() for path in kept] == [False, True]  # the second one's architecture can be chosen


def test_the_page_sweeps_uploads_that_were_forgotten(home):
    kept = uploads.keep(home, io.BytesIO(b"w"), "net.pth", 1)
    os.utime(kept.parent, (0, 0))
    open_page("library")
    assert not kept.exists()


def test_an_architecture_that_the_keys_leave_open_is_asked_for(home, state, tmp_path):
    piece = {name: tensor for name, tensor in state.items() if name.startswith("layer1")}
    torch.save(piece, tmp_path / "piece.pth")
    app = look_into(home, tmp_path / "piece.pth")
    assert app.warning[0].value.startswith("Which architecture is this?")
    box = app.selectbox(key="candidate")
    assert "ResNet20" in box.options and "MobileNetV1" not in box.options
    box.set_value("resnet20")
    press(app, "Load as this architecture")
    (job_id,) = queue.queued(home)
    assert queue.status(home, job_id).job.spec == InspectSpec(str(tmp_path / "piece.pth"), "resnet20")
    worker.work(home, job_id)
    run(app)
    assert "do not fit ResNet20" in app.error[0].value and "missing" in app.error[0].value
    assert app.selectbox(key="candidate").options  # another can be chosen


def test_a_link_from_another_machine_says_so():
    assert (
        "was started on another machine" in open_page("library", job="20200101-000000-000000000-abcdef").info[0].value
    )


def test_deleting_asks_first(home, file):
    card = importing.add(home, file, "mine")
    app = press(open_page("library"), "Delete …")
    assert "Its runs are kept" in app.markdown[-1].value
    assert "Delete" in [button.label for button in app.button]
    assert library.cards(home) == [card] and library.removed(home) == []


def test_what_was_deleted_can_be_brought_back(home, file):
    """Here as the answer to the question leaves it; tests/browser presses the button in the dialog."""
    card = importing.add(home, file, "mine")
    app = open_page("library")
    library.remove(home, "mine")
    app.session_state["removed"] = "mine"
    run(app)
    assert "“mine” was deleted." in app.info[0].value and "Nothing yet" in app.info[1].value
    press(app, "Undo")
    assert library.cards(home) == [card]
    assert "Undo" not in [button.label for button in app.button]


def test_what_was_deleted_long_ago_is_brought_back_or_deleted_for_good(home, file):
    card = importing.add(home, file, "mine")
    library.remove(home, "mine")
    app = open_page("library")
    assert app.expander[0].label == "Deleted (1)"
    press(app, "Delete all permanently …")
    assert library.removed(home) == ["mine"]
    press(app, "Restore")
    assert library.cards(home) == [card] and not app.expander


def test_nothing_is_brought_back_over_another_of_that_name(home, file):
    importing.add(home, file, "mine")
    library.remove(home, "mine")
    other = importing.add(home, file, "mine", method="GMP")
    app = press(open_page("library"), "Restore")
    assert app.error[0].value == "Another 'mine' exists by now. Remove or rename it, then restore this one."
    assert library.cards(home) == [other]
