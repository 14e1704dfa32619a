"""The field's fixed vocabulary: pruning methods, architectures, downstream tasks, transfers.

Source of methods, tasks and protocol: Iofinova, Peste, Kurtz, Alistarh, "How Well Do Sparse ImageNet Models
Transfer?", CVPR 2022 (arXiv 2111.13445), sections 2 and 3.
"""

from dataclasses import dataclass
from pathlib import Path

CITATION = "Iofinova, Peste, Kurtz, Alistarh: How Well Do Sparse ImageNet Models Transfer? CVPR 2022"


@dataclass(frozen=True)
class Method:
    """A pruning method: its family and a one-line summary."""

    name: str
    family: str
    summary: str


UNKNOWN = "Unknown"  # pruning method or upstream data that a user did not name

METHODS = {
    method.name: method
    for method in (
        Method("Dense", "reference", "not pruned: the baseline of every sparse network"),
        Method("GMP", "progressive", "gradual magnitude pruning: prunes the smallest weights in steps during training"),
        Method("WoodFisher", "progressive", "second-order pruning that also updates the remaining weights"),
        Method("M-FAC", "progressive", "second-order pruning with matrix-free inverse-Hessian-vector products"),
        Method("STR", "regularisation", "learns a soft threshold per layer during training"),
        Method("AC/DC", "regularisation", "alternates dense and sparse training phases"),
        Method("RigL ERK 1x", "regularisation", "sparse throughout: drops small weights, grows by gradient magnitude"),
        Method("RigL ERK 5x", "regularisation", "RigL trained five times longer"),
        Method("LTH-T", "lottery ticket", "lottery ticket: a mask applied to the initial weights, then transferred"),
        Method("Magnitude", "one-shot", "one-shot: zeroes the smallest weights, without further training"),
        Method("Structured", "structured", "removes whole filters"),
    )
}

ARCHITECTURES = {f"resnet{depth}": f"ResNet{depth}" for depth in (50, 34, 18, 20, 32, 44, 56)}
ARCHITECTURES |= {"mobilenet_v1": "MobileNetV1", "efficientnet_lite0": "EfficientNet-Lite0"}

# Detectors: their results are mAP, and they are transferred to boxes, never to classes of whole images.
DETECTORS = {"yolov3": "YOLOv3", "yolov3_spp": "YOLOv3-SPP", "yolov3_tiny": "YOLOv3-tiny"}
DETECTORS |= {f"yolov5{size}": f"YOLOv5{size}" for size in "nsmlx"}
COARSEST = 32  # pixels: the stride of a detector's last level, of which the sides of its input are multiples

PAPER_ARCHITECTURES = ("resnet50", "resnet34", "resnet18", "mobilenet_v1")

ENGINES = {"deepsparse": "DeepSparse", "onnxruntime": "ONNX Runtime", "torch": "PyTorch"}

TRANSFERS = {"linear": "Linear transfer", "full": "Full transfer"}

PRECISIONS = ("fp32", "bf16")

DISTRIBUTIONS = {"uniform": "uniform", "erk": "Erdős–Rényi-Kernel", "global": "global magnitude"}

MIN_SIDE, MAX_SIDE = 8, 1024  # pixels of the images that a user may ask for

INTERPOLATIONS = ("bilinear", "bicubic")  # of images that are resized


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel (red, green, blue) of pixels scaled to 0..1, by a name users know."""

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


NORMALISATIONS = {
    "imagenet": Normalisation("ImageNet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "efficientnet_lite": Normalisation("EfficientNet-Lite", (0.498, 0.498, 0.498), (0.502, 0.502, 0.502)),
    "cifar10": Normalisation("CIFAR-10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": Normalisation("CIFAR-100", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "unit": Normalisation("Scaled to 0..1", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": Normalisation("Mean and std 0.5", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}

METRICS = {"top1": "top-1 accuracy", "mean_per_class": "mean per-class accuracy", "accuracy": "accuracy"}
MAP, STRICT_MAP = "mAP@0.5", "mAP@[.5:.95]"  # of detectors
METRICS |= {MAP: MAP, STRICT_MAP: STRICT_MAP}
# What views of results are of. Accuracies (top-1 and mean per-class, as is usual on a task) and mAP are never mixed.
RESULT_METRICS = {"accuracy": "Accuracy", MAP: MAP, STRICT_MAP: STRICT_MAP}


@dataclass(frozen=True)
class Task:
    """A downstream dataset of the paper: number of classes, the metric usually reported, ``kind`` general or specialised."""

    id: str
    name: str
    classes: int
    metric: str
    kind: str


TASKS = {
    task.id: task
    for task in (
        Task("aircraft", "FGVC-Aircraft", 100, "mean_per_class", "specialised"),
        Task("birds", "Birdsnap", 500, "top1", "specialised"),
        Task("caltech101", "Caltech-101", 101, "mean_per_class", "general"),
        Task("caltech256", "Caltech-256", 257, "mean_per_class", "general"),
        Task("cars", "Stanford Cars", 196, "top1", "specialised"),
        Task("cifar10", "CIFAR-10", 10, "top1", "general"),
        Task("cifar100", "CIFAR-100", 100, "top1", "general"),
        Task("dtd", "Describable Textures", 47, "top1", "general"),
        Task("flowers", "Oxford Flowers-102", 102, "mean_per_class", "specialised"),
        Task("food101", "Food-101", 101, "top1", "specialised"),
        Task("pets", "Oxford-IIIT Pets", 37, "mean_per_class", "specialised"),
        Task("sun397", "SUN397", 397, "top1", "general"),
    )
}


VARIANTS = {
    "tensorflow": "TensorFlow's padding",
    "A": "shortcuts without weights",
    "B": "shortcuts with weights",
    "cifar": "3 × 3 stem, no max pooling",
    "cifar_maxpool": "3 × 3 stem and max pooling",
    "darknet": "Darknet",
    "ultralytics": "Ultralytics",
    "v6": "releases 6 and 7",
    "v5": "releases 4 and 5",
}
VARIANTS |= {
    f"{variant}_{short}": f"{VARIANTS[variant]}, {activation}"
    for variant in ("ultralytics", "v6", "v5")
    for short, activation in (("leaky", "LeakyReLU"), ("hardswish", "Hardswish"))
}


def architecture_label(architecture: str) -> str:
    """The usual spelling, such as ResNet50 for ``resnet50``, with the variant where one is named: ``resnet18-cifar``."""
    labels = ARCHITECTURES | DETECTORS
    if "-" not in str(architecture):  # tables have empty cells
        return labels.get(architecture, architecture)
    name, _, variant = architecture.partition("-")
    return f"{labels.get(name, name)} ({VARIANTS.get(variant, variant)})"


DIGITS = "digits"
VOC = "voc"
BOX_TASKS = {VOC: "PASCAL VOC"}  # images with boxes, for detectors

# The datasets with a loader of their own, id to name.
BUILT_IN = {DIGITS: "Digits", **{task.id: task.name for task in TASKS.values()}, **BOX_TASKS}


def built_in_dataset(given: str) -> str:
    """The built-in dataset that a user asked for as ``given``, a name or a path; empty for a path, whatever its last part."""
    return given if given in BUILT_IN else ""


def listed_dataset(name: str, built_in: str) -> str:
    """The name under which results of a dataset are listed: ``built_in``, the id of one of ``BUILT_IN``, or a user's own name.

    ``built_in`` is empty for a user's folder or file. One that has the name of a built-in dataset is marked, because nothing
    known of that one is true of it.
    """
    taken = {known.lower() for known in (*BUILT_IN, *BUILT_IN.values())}
    return built_in or (f"{name} (own data)" if name.lower() in taken else name)


def asked_dataset(given: str) -> str:
    """The name under which results of the dataset will be listed that a user asked for as ``given``, a name or a path."""
    path = Path(given)
    return listed_dataset(path.stem if path.suffix == ".parquet" else path.name, built_in_dataset(given))


def task_label(dataset: str) -> str:
    """The usual name of a dataset, given as ``listed_dataset`` names it; a user's own keeps its name."""
    return BUILT_IN.get(dataset, dataset)
