"""Evaluate: the accuracy of a network with the classifier it was trained with, or the mAP of a detector with its prediction
layers, and the table of all that were evaluated."""

import streamlit as st

from pages.parts import box_data, choices, frame, links, progress, upstream_table
from pages.parts.frame import home
from pages.parts.results import open_store
from sparse_core.catalog import MAP, STRICT_MAP
from sparse_core.errors import InputError
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library
from sparse_core.networks.library import BackboneCard
from sparse_core.results import evaluations
from sparse_core.specs.evaluation import CIFAR10, EVALUATIONS, IMAGES, V2, EvaluateSpec
from sparse_core.specs.options import command
from sparse_core.transfer import evaluation_checks
from sparse_core.views import evaluations as tables
from sparse_core.views import labels

BUTTON = "Evaluate"
HELP = (
    "ImageNet: the validation images in 1,000 folders. ReaL: the same images with real.json beside them. ImageNetV2: its three "
    "folders of samples. Your own images: folders or Parquet with the classes that the network was trained on; without a test "
    "split, the fifth that trainings here leave out counts."
)

BOXES_HELP = (
    "Test images with boxes of the classes that the detector was trained on, in the same order; without a test split, the fifth "
    "that trainings here leave out counts. VOC, COCO or YOLO layout."
)
RESULTS = {"top1": "Top-1 accuracy", "map50": MAP, "map": STRICT_MAP}


def main() -> None:
    """The form; the job that the link names, or that runs; then the table."""
    open_store("evaluate")
    _form()
    status = progress.linked_job("evaluate") or progress.unfinished_job("evaluate")
    if status:
        spec: EvaluateSpec = status.job.spec
        st.header(frame.plain(f"{spec.backbone} on {tables.dataset_label(spec.dataset)}"), divider="gray")
        if not status.ended:
            progress.show_progress(status.job_id)
        elif status.state == "done":
            _result(status)
        else:
            progress.ended_without_result(status, BUTTON)
    upstream_table.show("All evaluations", deletable=True)


def _form() -> None:
    cards = library.available(home())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = choices.example(cards)
        help_text = f"With the classifier or the prediction layers it was trained with. {choices.IMPORT_HELP}"
        card = choices.backbone_choice(cards, index=first, persist_state="session", width=420, help=help_text)
        if card.is_detector:
            boxes = box_data.dataset_choice("Evaluate on", BOXES_HELP)
    if card.is_detector:
        if boxes and box_data.look(boxes) and _has_classes_of(card, boxes):
            _start(EvaluateSpec.of(card.name, boxes, ""), card)
        return
    _form_of_images(card)


def _has_classes_of(card: BackboneCard, dataset: str) -> bool:
    """Whether a detector may be for the classes of these images; says so where their numbers differ."""
    if not card.classes or box_data.awaited(dataset):
        return True
    try:
        evaluation_checks.require_classes(card.name, card.classes, len(box_data.opened(home(), dataset).class_names))
    except InputError as error:
        st.error(frame.plain(str(error)))
        return False
    return True


def _form_of_images(card: BackboneCard) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = {**EVALUATIONS, choices.OWN_DATASET: choices.OWN_DATASET}
        chosen = choices.selectbox(
            "Evaluate on",
            list(names),
            index=list(names).index(_own_upstream(card)),
            format_func=names.__getitem__,
            key="evaluate_on",
            width=300,
            help=HELP,
        )
        own = chosen == choices.OWN_DATASET
        folder = st.text_input(
            "Path on this machine" if own else "Folder of the images",
            key="images",
            bind="query-params",
            placeholder="/home/me/images" if own else str(evaluation_checks.usual_folder(home(), chosen)),
            help=None if own else "Left empty: the folder shown. CIFAR-10 is downloaded there at first use.",
            width=420,
        )
    path = (folder or "").strip()
    if own and not path:
        st.info("Enter the path of a folder with one folder per class, or of a Parquet file.")
        return
    spec = EvaluateSpec.of(card.name, path, "") if own else EvaluateSpec.of(card.name, chosen, path)
    _start(spec, card)


def _own_upstream(card: BackboneCard) -> str:
    return CIFAR10 if "CIFAR-10" in card.upstream and "CIFAR-100" not in card.upstream else next(iter(EVALUATIONS))


def _start(spec: EvaluateSpec, card: BackboneCard) -> None:
    """The button, and about how long it will take where an evaluation has shown that."""
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button(BUTTON, type="primary", icon=":material/play_arrow:")
        links.share(command("evaluate", spec), key="share_evaluate")
        st.caption(_estimate(spec, card))
    if pressed:
        try:
            evaluation_checks.require_evaluable(home(), spec)
        except InputError as error:
            st.error(frame.plain(str(error)))
            return
        st.query_params["job"] = queue.submit(home(), Job("evaluate", spec))
        st.rerun()


def _estimate(spec: EvaluateSpec, card: BackboneCard) -> str:
    pace = evaluations.seconds_per_image(evaluations.read_all(home()), card.architecture)
    images = IMAGES.get(spec.dataset)
    if pace is None or images is None:
        done = "searched for objects" if card.is_detector else "classified"
        return f"Each test image is decoded and {done} once; the time left is shown after the first ones."
    of = f"all {images:,} images" + (" of the three samples" if spec.dataset == V2 else "")
    return f"About {labels.duration(pace * images)} for {of}, at the pace of the last evaluation of this architecture."


def _result(status: queue.Status) -> None:
    result = status.result
    with st.container(horizontal=True):
        for name, title in RESULTS.items():
            if result.get(name) is not None:
                st.metric(title, f"{labels.percent(result[name])} %")
        if result.get("mean_per_class") is not None:
            st.metric("Mean per-class accuracy", f"{labels.percent(result['mean_per_class'])} %")
        for part, share in result["parts"].items():
            st.metric(frame.plain(part), f"{labels.percent(share)} %")
        st.metric("Images", f"{result['images']:,}")
        st.metric("Time", labels.duration(result["seconds"]))


main()
