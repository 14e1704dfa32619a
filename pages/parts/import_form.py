"""The form that imports an inspected file: the backbone's name and origin, and how images are prepared for it."""

from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts.frame import home, plain
from sparse_core.catalog import INTERPOLATIONS, MAX_SIDE, METHODS, MIN_SIDE, NORMALISATIONS, UNKNOWN
from sparse_core.datasets import transforms
from sparse_core.datasets.transforms import Transform
from sparse_core.errors import InputError
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import guesses, library, preprocessing
from sparse_core.specs.checkpoints import ImportSpec, InspectSpec
from sparse_core.views import labels

CUSTOM = "custom"
NORMALISATION_NAMES = {key: known.name for key, known in NORMALISATIONS.items()} | {CUSTOM: "Custom mean and std"}
SCALE_HELP = "Of pixels scaled to 0..1. One number, or one per channel (red, green, blue): 0.5 or 0.485, 0.456, 0.406."


def show(spec: InspectSpec, seen: dict[str, Any]) -> None:
    """The form, filled in with what is known from the file or measured; ``seen`` is the inspection of ``spec``.

    Not an ``st.form``: the preprocessing that is suggested follows the method and the upstream.
    """
    with st.container(border=True):
        st.markdown("**Name the backbone, and correct what the file does not state.**")
        named = _origin(spec, seen)
        try:
            import_spec = ImportSpec(**named, **_preprocessing(seen, named["method"], named["upstream"]))
            submitted = st.button("Import", type="primary", icon=":material/library_add:")
        except InputError as error:
            st.error(plain(str(error)))
            st.button("Import", type="primary", icon=":material/library_add:", disabled=True)
            return
    if submitted:
        st.query_params["import"] = queue.submit(home(), Job("import", import_spec))
        st.rerun()


def _origin(spec: InspectSpec, seen: dict[str, Any]) -> dict[str, Any]:
    """Name, method, sparsity and upstream, as fields of ``ImportSpec``."""
    measured = seen["backbone_sparsity"]
    guess = guesses.guess_method(seen["method"], measured)
    methods = list(dict.fromkeys([*METHODS, UNKNOWN, guess]))
    columns = st.columns([3, 2, 2, 2])
    name = columns[0].text_input(
        "Name", library.free_name(home(), _stem(spec.path)), help="Its name on the other pages."
    )
    method = columns[1].selectbox(
        "Pruning method", methods, index=methods.index(guess), help="Not every file states it."
    )
    help_text = f"The round figure by which it is known. Measured: backbone sparsity {labels.percent(measured)} %."
    stated = seen.get("nominal_sparsity", guesses.nominal(measured))
    percent = columns[2].number_input("Nominal sparsity (%)", 0.0, 99.99, 100 * stated, format="%g", help=help_text)
    known = (seen["dataset"], seen.get("upstream"), seen["classes"], seen["architecture"])
    upstream = columns[3].text_input("Trained on", guesses.guess_upstream(*known), help="The upstream dataset.")
    return {
        "path": spec.path,
        "name": name.strip(),
        "architecture": spec.architecture,
        "weights": spec.weights,
        "method": method,
        "sparsity": round(percent / 100, 6),
        "upstream": upstream.strip(),
        "origin": Path(spec.path).name,
    }


def _preprocessing(seen: dict[str, Any], method: str, upstream: str) -> dict[str, Any]:
    """How images are prepared, as fields of ``ImportSpec``. Raises InputError for values that cannot be used."""
    known, source = _suggested(seen, method, upstream)
    columns = st.columns([3, 2, 2, 2])
    keys = list(NORMALISATION_NAMES)
    normalisation = columns[0].selectbox(
        "Normalisation",
        keys,
        index=keys.index(known.normalisation or CUSTOM),
        format_func=NORMALISATION_NAMES.__getitem__,
        help="Mean and standard deviation by which each channel of an image is scaled.",
    )
    resize = columns[1].number_input(
        "Resize to (px)", MIN_SIDE, MAX_SIDE, known.resize, help="The image's shorter side, before the crop."
    )
    crop = columns[2].number_input(
        "Crop (px)", MIN_SIDE, MAX_SIDE, known.crop, help="Each side of the centre crop: the network's input."
    )
    interpolation = columns[3].selectbox(
        "Interpolation",
        INTERPOLATIONS,
        index=INTERPOLATIONS.index(known.interpolation),
        format_func=str.capitalize,
        help="Of resizing. RigL's checkpoints need bicubic.",
    )
    fields: dict[str, Any] = {"resize": resize, "crop": crop, "interpolation": interpolation}
    if normalisation == CUSTOM:
        left, right = st.columns(2)
        for column, name, label in ((left, "mean", "Mean"), (right, "std", "Standard deviation")):
            shown = ", ".join(f"{value:g}" for value in getattr(known, name))
            fields[name] = _numbers(label, column.text_input(label, shown, help=SCALE_HELP))
    else:
        fields["normalisation"] = normalisation
    st.caption(
        f"Preprocessing {source}. Correct it where the network was trained on images that were prepared otherwise: a wrong "
        "one costs accuracy. It is part of the network: to change it later, import the file again."
    )
    preprocessing.chosen(ImportSpec("", "", **fields), known)
    return fields


def _suggested(seen: dict[str, Any], method: str, upstream: str) -> tuple[Transform, str]:
    """The preprocessing to start from, and where it comes from."""
    of_file = transforms.from_document(seen["preprocessing"])
    if seen.get("preprocessing_stated"):
        return of_file, "as the file states it"
    guess = preprocessing.guess(seen["architecture"], seen["variant"], method, upstream, of_file)
    return guess, "guessed from architecture, pruning method and upstream dataset"


def _numbers(label: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise InputError(f"{label} takes one number or three, such as 0.485, 0.456, 0.406; got '{text}'.") from None


def _stem(path: str) -> str:
    """The file's name without its endings: resnet50 for resnet50.pth.tar."""
    name = Path(path).name
    for ending in (".gz", ".tar", ".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".weights"):
        name = name.removesuffix(ending)
    return name
