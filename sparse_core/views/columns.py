"""The table of columns: heading, unit, number format and help of every column that the dashboard's tables show.

Downloads keep the stored names and values; headings and units are for the screen only.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from sparse_core.catalog import ENGINES, METRICS, TRANSFERS, architecture_label, task_label
from sparse_core.views import times
from sparse_core.views.labels import GAINS, MODES, ROUTES, SOURCES


@dataclass(frozen=True)
class Unit:
    """``symbol`` follows the heading in parentheses; a value is multiplied by ``scale`` for display; ``format`` is a printf
    format, ``localized`` (digits grouped) or a date pattern; None leaves the display to the widget."""

    symbol: str = ""
    scale: float = 1
    format: str | None = None


PLAIN = Unit()
PERCENT = Unit("%", 100, "%.1f")  # of a fraction
POINTS = Unit("points", 100, "%.1f")  # a difference of fractions, in percentage points
COUNT = Unit(format="localized")
BYTES = Unit("bytes", format="localized")
DECIMAL = Unit(format="%.2f")
RELATIVE = Unit(format="%.2g")
SIGNIFICANT = Unit(format="%.3g")
TIMES = Unit("×", format="%.2f")
SECONDS = Unit("s", format="%.2f")
TIMESTAMP = Unit(format="YYYY-MM-DD HH:mm")
IMAGE, LINK = Unit(), Unit()
OWN_DATA = "on "  # a column of accuracies on the user's own data begins with it, and its name follows
LOCAL_TIME = "In this machine's local time; records and downloads have it in UTC."


@dataclass(frozen=True)
class Column:
    """How a column is shown. ``format`` overrides the unit's; ``label`` turns a stored value into a display name;
    ``formerly`` is the heading under which older links select the column."""

    heading: str
    unit: Unit = PLAIN
    formerly: str = ""
    format: str | None = None
    help: str | None = None
    label: Callable[[str], str] | None = None

    @property
    def title(self) -> str:
        """The heading with its unit, such as "Sparsity (%)"."""
        return f"{self.heading} ({self.unit.symbol})" if self.unit.symbol else self.heading

    @property
    def number_format(self) -> str | None:
        """The format of the value after scaling."""
        return self.format or self.unit.format


def _named(names: dict[str, str]) -> Callable[[str], str]:
    return lambda value: names.get(value, value)


def _short_hash(network: str) -> str:
    """The start of a network's content hash; some tables name networks by a label, which stays."""
    return network[:8] if re.fullmatch("[0-9a-f]{64}", network) else network


COLUMNS = {
    # What was run
    "source": Column("Source", label=_named(SOURCES)),
    "architecture": Column("Architecture", label=architecture_label),
    "transfer": Column("Transfer", label=_named(TRANSFERS)),
    "metric": Column("Metric", label=_named(METRICS)),
    "dataset": Column("Task", label=task_label),
    "dataset_hash": Column("Task content hash", formerly="Task's content"),
    "row": Column("Network"),
    "network": Column(
        "Network",
        label=_short_hash,
        help="The start of the hash of its content: weights, mask and preparation of images.",
    ),
    "network_name": Column("Network name", help="As in the library."),
    "recipe": Column(
        "Training", help="What was trained alike: epochs, and what is not usual. Known for networks made here."
    ),
    "member": Column("Joined network", label=_short_hash, help="The single network, where several are shown as one."),
    "run_id": Column("Run"),
    "colour": Column("Colour", IMAGE, help="That of the method, as in all charts."),
    "finding_view": Column("View", LINK, help="The rows that the statement speaks of, on Tradeoffs, in a new tab."),
    "final_mean": Column("Mean final accuracy", PERCENT, help="After the last epoch, over seeds."),
    "final_std": Column("SD of final accuracy", POINTS, format="%.2f", help="Over seeds (n − 1); empty for one seed."),
    "best_mean": Column("Mean best accuracy", PERCENT, help="Best epoch (selected on test data: optimistic)."),
    "best_std": Column("SD of best accuracy", POINTS, format="%.2f", help="Over seeds (n − 1); empty for one seed."),
    "series_name": Column(
        "Series", help="Rows with the same settings and upstream data, by what sets them apart from others."
    ),
    "protocol": Column("Settings", formerly="Protocol"),
    "created_at": Column("Created", TIMESTAMP, "Made at", help=LOCAL_TIME),
    "imported_at": Column("Imported", TIMESTAMP, "Imported at", help=LOCAL_TIME),
    "sparsity": Column(
        "Sparsity", PERCENT, format="%.4g", help="Nominal: the round figure by which a checkpoint is known."
    ),
    "measured_sparsity": Column(
        "Backbone sparsity",
        PERCENT,
        "Measured sparsity (%)",
        help="Measured: share of zero weights over the convolutions.",
    ),
    "sparsity_before": Column("Backbone sparsity before", PERCENT, "Sparsity before (%)"),
    "sparsity_after": Column("Backbone sparsity after", PERCENT, "Sparsity after (%)"),
    "mask_violations": Column("Mask violations", COUNT, help="Pruned weights that are not exactly 0 after training."),
    "seconds_training": Column("Training time", SECONDS, "Seconds training"),
    "upstream_data": Column("Upstream data", help="What the network was trained and pruned on."),
    "epochs": Column("Epochs", COUNT),
    "seed": Column("Seed"),
    "seconds": Column("Time", SECONDS, format="%.0f", help="Of its own training and pruning."),
    "seconds_estimated": Column(
        "Estimated time", SECONDS, format="%.0f", help="On this machine, if not there already."
    ),
    "seconds_with_parents": Column(
        "Time with parents", SECONDS, format="%.0f", help="With the networks that it started from, where made here."
    ),
    # Accuracy
    "upstream_accuracy": Column("Upstream accuracy", PERCENT, help="Top-1 on the upstream test images, last epoch."),
    "accuracy": Column("Accuracy", PERCENT),
    "accuracy_best": Column("Best accuracy", PERCENT, help="Best epoch (selected on test data: optimistic)."),
    "accuracy_final": Column("Final accuracy", PERCENT, help="After the last epoch."),
    "map_best": Column(
        "Best mAP@[.5:.95]", PERCENT, help="Of detectors. Best epoch, selected on test data: optimistic."
    ),
    "map_final": Column("Final mAP@[.5:.95]", PERCENT, help="Of detectors, after the last epoch."),
    "accuracy_mean": Column("Mean accuracy", PERCENT),
    "accuracy_std": Column(
        "Standard deviation", POINTS, format="%.2f", help="Over seeds (n − 1); empty for a single seed."
    ),
    "top1": Column("Top-1 accuracy", PERCENT, "Top1"),
    "mean_per_class": Column("Mean per-class accuracy", PERCENT, "Mean per class"),
    "error": Column("Error", PERCENT),
    "lowest": Column("95 % interval, low", PERCENT, "95 % interval from (%)", help="Wilson's score interval."),
    "highest": Column("95 % interval, high", PERCENT, "95 % interval to (%)", help="Wilson's score interval."),
    "baseline_accuracy": Column("Dense accuracy", PERCENT, help="The mean of the dense networks' means."),
    "baseline_std": Column(
        "Dense standard deviation",
        POINTS,
        format="%.2f",
        help="Over seeds (n − 1); between networks where there are several dense ones.",
    ),
    "baseline_seeds": Column("Dense seeds", COUNT, "Dense runs"),
    "baseline_networks": Column("Dense networks", COUNT),
    "difference": Column("Difference to dense", POINTS),
    "difference_low": Column("Difference, 95 % interval, low", POINTS, help="By the method in the column Interval."),
    "difference_high": Column("Difference, 95 % interval, high", POINTS, help="By the method in the column Interval."),
    "interval": Column("Interval", help="How the interval of the difference is computed; empty where n = 1 on a side."),
    "relative_error_increase": Column("Relative error increase over dense", PERCENT, "Relative error increase (%)"),
    "mean_relative_error_increase": Column(
        "Mean relative error increase over dense", PERCENT, "Mean relative error increase (%)"
    ),
    "standard_error": Column(
        "Standard error", PERCENT, format="%.2f", help="Over tasks (n − 1); empty for a single task."
    ),
    "seed_error": Column(
        "Standard error over seeds",
        PERCENT,
        format="%.2f",
        help="Of the same mean, from the spread over seeds (delta method).",
    ),
    "increase_low": Column(
        "Increase, 95 % interval, low", PERCENT, help="Of the mean over tasks: Student's t. Empty for a single task."
    ),
    "increase_high": Column("Increase, 95 % interval, high", PERCENT, help="Of the mean over tasks: Student's t."),
    "rank": Column(
        "Rank",
        COUNT,
        help="1 + the number of networks of the same series and sparsity that are better: the 95 % interval of their difference "
        "lies on one side of 0.",
    ),
    "tied": Column(
        "Tied with",
        help="Networks of the same series and sparsity, and dense, whose difference has a 95 % interval that includes 0: over "
        "tasks (paired t), on one task over seeds (paired t where both are your runs with the same seeds, else Welch's). Not "
        "corrected for the number of pairs.",
    ),
    "difficulty": Column("Difficulty", POINTS, help="Dense accuracy of full transfer minus that of linear transfer."),
    "front": Column("Pareto-optimal", formerly="On the front"),
    "runs": Column("Runs", COUNT),
    "seeds": Column("Seeds", COUNT, help="The n of the mean. Runs that repeat a seed are averaged into it."),
    "seed_std": Column(
        "Deviation between seeds",
        POINTS,
        format="%.2f",
        help="Of one network, where several are joined: root mean variance.",
    ),
    "replicate": Column("Replicate", COUNT, help="Above 0: the run repeats a seed, and counts as the same sample."),
    "tasks": Column("Tasks", COUNT),
    "images": Column("Images", COUNT),
    "route": Column("Route", label=_named(ROUTES)),
    "start": Column("Started from"),
    "networks": Column(
        "Networks", COUNT, help="Above 1: the mean is that of the networks' means, and n is their number."
    ),
    # Evaluations
    "imagenet": Column("ImageNet", PERCENT, help="Top-1 on the validation images."),
    "imagenet-real": Column("ReaL", PERCENT, help="In the label set of each ImageNet validation image that has one."),
    "imagenetv2": Column("ImageNetV2", PERCENT, help="Top-1, mean of its three samples."),
    "matched-frequency": Column("V2 matched frequency", PERCENT),
    "threshold-0.7": Column("V2 threshold 0.7", PERCENT),
    "top-images": Column("V2 top images", PERCENT),
    "cifar10": Column("CIFAR-10", PERCENT, help="Top-1 on the test images."),
    "map50": Column("mAP@0.5", PERCENT, help="On the test images, with the detector's own prediction layers."),
    "map": Column("mAP@[.5:.95]", PERCENT, help="On the test images, with the detector's own prediction layers."),
    "images_of": Column("Images", help="Test images of each dataset."),
    "evaluated_at": Column("Evaluated", TIMESTAMP, help=f"The latest. {LOCAL_TIME}"),
    # Rankings
    "score": Column("Score", DECIMAL, format="%.4f"),
    "chosen": Column("Chosen", help="Hyperparameter, on a split of the training images."),
    # Relations
    "slope": Column("Slope (% per point)", SIGNIFICANT, help="Relative error increase per point of task difficulty."),
    "slope_low": Column("Slope, 95 % interval, low", SIGNIFICANT, help="Student's t."),
    "slope_high": Column("Slope, 95 % interval, high", SIGNIFICANT, help="Student's t."),
    "rho": Column("Spearman's ρ", SIGNIFICANT),
    "rho_low": Column("ρ, 95 % interval, low", SIGNIFICANT, help="Bonett and Wright; empty below ten tasks."),
    "rho_high": Column("ρ, 95 % interval, high", SIGNIFICANT, help="Bonett and Wright; empty below ten tasks."),
    "rho_p": Column("p of ρ", SIGNIFICANT),
    "transfer_accuracy": Column("Mean transfer accuracy", PERCENT),
    "upstream_map": Column("Upstream mAP@0.5, COCO", PERCENT),
    "transfer_map": Column("Downstream mAP@0.5, VOC", PERCENT),
    "own_upstream_map": Column(
        "Upstream mAP", PERCENT, help="Of the detector before its transfer, on its own classes."
    ),
    "own_transfer_map": Column("Mean downstream mAP", PERCENT),
    "evaluated_network": Column("Detector"),
    "reading": Column("Reading", help="How the downstream figure was read off its source."),
    "upstream_origin": Column("Upstream accuracy from"),
    "upstream_map_origin": Column("Upstream mAP from"),
    "transfer_map_origin": Column("Downstream mAP from"),
    # Comparisons
    "first": Column("First"),
    "second": Column("Second"),
    "mean": Column("Mean relative error increase over dense", PERCENT),
    "low": Column("95 % interval, low", POINTS),
    "high": Column("95 % interval, high", POINTS),
    "setting_difference": Column("Accuracy difference", POINTS, help="What the first setting gains over the second."),
    "p": Column("Wilcoxon p", SIGNIFICANT, help="Signed-rank test over tasks; empty below six."),
    "p_holm": Column("p, Holm", SIGNIFICANT, help="Corrected for the number of pairs."),
    "won": Column("Won", COUNT),
    "drawn": Column("Drawn", COUNT),
    "lost": Column("Lost", COUNT),
    "unknown": Column("No interval", COUNT, help="Tasks with fewer than three seeds on a side."),
    "mean_rank": Column("Mean rank", DECIMAL),
    # Structure
    "filters": Column("Filters", COUNT),
    "filters_pruned": Column("Fully pruned filters", COUNT, "Filters pruned"),
    "filters_removable": Column("Removable filters", COUNT, "Filters that can be removed"),
    "channels": Column("Input channels", COUNT, "Channels"),
    "channels_pruned": Column("Fully pruned input channels", COUNT, "Channels pruned"),
    "channels_removable": Column("Removable input channels", COUNT, "Channels that can be removed"),
    "filters_pruned_share": Column("Fully pruned filters, of all", PERCENT, "Filters pruned, of all (%)"),
    "mean_layer_filters_pruned_share": Column(
        "Fully pruned filters, mean over layers", PERCENT, "Filters pruned, mean over layers (%)"
    ),
    "filters_dead_share": Column("Removable filters", PERCENT, "Filters that can be removed (%)"),
    "filters_removable_share": Column("Removable filters", PERCENT),
    "channels_pruned_share": Column("Fully pruned input channels", PERCENT),
    "channels_removable_share": Column("Removable input channels", PERCENT),
    "series": Column("Network"),
    "parameters": Column("Parameters", COUNT),
    "parameters_removable": Column("Removable parameters", COUNT, "Parameters that can be removed"),
    "nonzero": Column("Nonzero parameters", COUNT),
    "nonzero_parameters": Column("Nonzero parameters", COUNT),
    "multiply_adds": Column("Multiply-adds", COUNT),
    "multiply_adds_sparse": Column("Multiply-adds of nonzero weights", COUNT),
    "multiply_adds_removable": Column("Removable multiply-adds", COUNT, "Multiply-adds that can be removed"),
    "file_size": Column("File size", BYTES, help="Stored sparse."),
    "groups": Column("Groups", COUNT),
    "kept_first": Column("Kept in the first", COUNT, "Kept first"),
    "kept_second": Column("Kept in the second", COUNT, "Kept second"),
    "kept_in_both": Column("Kept in both", COUNT),
    "kept_in_either": Column("Kept in either", COUNT),
    "overlap": Column("Mask overlap (IoU)", PERCENT, "In common (%)"),
    "overlap_by_chance": Column("IoU expected at random", PERCENT, "In common by chance (%)"),
    # Speed
    "mode": Column("Mode", label=_named(MODES), formerly="Timed"),
    "distribution": Column("Sparsity distribution", formerly="Distribution"),
    "form": Column("Form", help="Compact: the filters that structured pruning removed are gone, not masked."),
    "origin": Column("Mask source", formerly="Mask of"),
    "engine": Column("Engine ID", label=_named(ENGINES), formerly="Engine"),
    "engine_words": Column("Engine"),
    "ratio": Column("Speedup over dense", TIMES, "Times as fast as dense"),
    "ratio_low": Column("Speedup, 95 % interval, low", TIMES, "95 % interval from"),
    "ratio_high": Column("Speedup, 95 % interval, high", TIMES, "95 % interval to"),
    "interval_method": Column(
        "Interval by",
        help="Order statistics: an interval of the median ratio of rounds that assumes no distribution, from six rounds on. "
        "Student's t: on the logarithms of the rounds' ratios.",
    ),
    "gain": Column("Result", label=_named(GAINS), formerly="Verdict"),
    "milliseconds_per_image": Column("ms/image", DECIMAL, "Milliseconds an image"),
    "dense_milliseconds_per_image": Column("Dense ms/image", DECIMAL, "Milliseconds an image, dense"),
    "quartile_low": Column("ms/image, lower quartile", DECIMAL, "Milliseconds an image, lower quartile"),
    "quartile_high": Column("ms/image, upper quartile", DECIMAL, "Milliseconds an image, upper quartile"),
    "dense_quartile_low": Column(
        "Dense ms/image, lower quartile", DECIMAL, "Milliseconds an image, dense, lower quartile"
    ),
    "dense_quartile_high": Column(
        "Dense ms/image, upper quartile", DECIMAL, "Milliseconds an image, dense, upper quartile"
    ),
    "images_per_second": Column("images/s", DECIMAL, "Images a second"),
    "image_size": Column("Image size (px)", help="Each side of the network's input; 0: the network's own."),
    "decoding_milliseconds": Column("Box decoding, ms/image", DECIMAL, help="Of a detector, after the network."),
    "nms_milliseconds": Column(
        "Non-maximum suppression, ms/image", DECIMAL, help="Of a detector, for its 3,000 most probable boxes."
    ),
    "seconds_per_epoch": Column("Time per epoch", SECONDS, "Seconds an epoch"),
    "dense_seconds_per_epoch": Column("Dense time per epoch", SECONDS, "Seconds an epoch, dense"),
    "seconds_to_compile": Column("Compile time", SECONDS, "Seconds to compile"),
    "peak_memory_bytes": Column("Peak engine memory", BYTES, "Memory of the engine, peak (bytes)"),
    "output_difference": Column(
        "Output difference to PyTorch", RELATIVE, "Difference to PyTorch's output", help="Largest, relative."
    ),
    "spread": Column("Spread of times", PERCENT, help="Interquartile range over median."),
    "busy_before": Column("Background CPU load before", PERCENT, "Other work before (%)"),
    "busy_during": Column("Background CPU load", PERCENT, "Other work meanwhile (%)"),
    "load_before": Column("Load average per core before", DECIMAL, "Load before"),
    "load_after": Column("Load average per core after", DECIMAL, "Load after"),
    "share": Column("Share of time", PERCENT),
    "rounds": Column("Timed pairs", COUNT, "Pairs of times"),
}


def column(name: str) -> Column:
    """The definition of a column; one that has none is headed by its name."""
    words = name.replace("_", " ")
    if name.startswith(OWN_DATA):
        return Column(name.removeprefix(OWN_DATA), PERCENT, help="Top-1 on the test images of your own data.")
    return COLUMNS.get(name) or Column(words[:1].upper() + words[1:])


def title_for(name: str, metric: str) -> str:
    """The heading of a column where accuracies are of ``metric``: "Mean mAP@0.5 (%)" for "Mean accuracy (%)"."""
    title = column(name).title
    if metric == "accuracy" or name.startswith("upstream"):
        return title
    return title.replace("Accuracy", metric).replace("accuracy", metric)


def for_display(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy with values in display units and stored names replaced by labels; column names stay."""
    shown = frame.copy()
    for name in frame.columns:
        definition = column(name)
        if definition.unit is TIMESTAMP:
            shown[name] = pd.to_datetime(frame[name]) + times.offset()
        elif definition.label:
            shown[name] = frame[name].map(definition.label)
        elif definition.unit.scale != 1:
            shown[name] = frame[name] * definition.unit.scale
    return shown
