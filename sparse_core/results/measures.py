"""The paper's measures, computed from result rows by DuckDB, and comparisons of backbones.

Source: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, section 3.
Measures take rows as ``sparse_core.results.store.Store.results`` returns them, one per run, and an ``accuracy``:
``best`` (over epochs, the paper's convention, optimistic) or ``final``. Runs without that accuracy do not count. All
accuracies, errors and differences are fractions of 1, and unknown values are NaN.

A sample is one seed of one network: runs that repeat a seed are averaged first, so that they neither raise n nor narrow an
interval. Networks are joined where ``joined`` says so, and into the dense baseline: then the samples are the networks' means.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from sparse_core.catalog import MAP, RESULT_METRICS, STRICT_MAP, task_label
from sparse_core.errors import unknown_name
from sparse_core.results.statistics import paired_interval, pareto_optimal, ratio_error, welch_interval

CONTENT_KEY = ["dataset", "dataset_hash", "metric"]
SERIES_KEY = ["source", "architecture", "upstream", "transfer", "protocol"]
NETWORK_KEY = ["method", "sparsity", "recipe", "network", "network_name"]
BASELINE_KEY = [*SERIES_KEY, *CONTENT_KEY]
CONFIGURATION_KEY = [*BASELINE_KEY, *NETWORK_KEY]
SUMMARY_KEY = [*SERIES_KEY, *NETWORK_KEY]
TASK_KEY = ["source", "architecture", "upstream", *CONTENT_KEY]

RECIPE_KEY = ["source", "architecture", "upstream", "method", "sparsity", "recipe"]

OURS = ("shipped", "measured")  # sources whose runs share the order of the training data where they share a seed
NEAR = 0.011  # sparsities that count as the same: M-FAC was run at 89 % where others were at 90 %
CELL = "cell"  # a column of coded rows: the number of what they have in common in ``CONFIGURATION_KEY``
SIZES = ["nonzero_parameters", "multiply_adds", "file_size"]
Regroup = Callable[[pd.DataFrame], pd.DataFrame]
ACCURACIES = {"best": "accuracy_best", "final": "accuracy_final"}

# Rows come as numbers: ``runs`` has the number of each row's network on its task, ``networks`` what that is (see ``_query``).
# favg sums by Kahan's method, so a mean does not depend on the order of its rows: the command line prints what a page shows.
_PARTS = f"""
    WITH samples AS MATERIALIZED (
        SELECT number, seed, accuracy, 1 AS runs FROM runs WHERE NOT repeated
        UNION ALL
        SELECT number, seed, favg(accuracy) AS accuracy, count(*) AS runs FROM runs WHERE repeated GROUP BY ALL),
    members AS MATERIALIZED (
        SELECT networks.*, accuracy, std, seeds, runs
        FROM networks JOIN (
            SELECT number, favg(accuracy) AS accuracy, stddev_samp(accuracy) AS std, count(*) AS seeds,
                   sum(runs)::BIGINT AS runs
            FROM samples GROUP BY number) USING (number)),
    configurations AS (
        SELECT {", ".join(CONFIGURATION_KEY)}, favg(accuracy) AS accuracy_mean,
               CASE WHEN count(*) = 1 THEN max(std) ELSE stddev_samp(accuracy) END AS accuracy_std,
               CASE WHEN count(*) > 1 THEN sqrt(favg(std * std)) END AS seed_std,
               CASE WHEN count(*) = 1 THEN max(seeds) ELSE count(*) END AS seeds,
               count(*) AS networks, sum(runs)::BIGINT AS runs, 1 - favg(accuracy) AS error
        FROM members GROUP BY ALL),
    usual AS (
        SELECT * FROM (
            SELECT *, count(*) OVER (PARTITION BY {", ".join(BASELINE_KEY)}, recipe) AS alike
            FROM members WHERE method = 'Dense')
        QUALIFY rank() OVER (PARTITION BY {", ".join(BASELINE_KEY)} ORDER BY alike DESC, recipe) = 1),
    dense AS (
        SELECT {", ".join(BASELINE_KEY)}, favg(accuracy) AS baseline_accuracy, count(*) AS baseline_networks,
               sum(seeds)::BIGINT AS baseline_seeds,
               CASE WHEN count(*) = 1 THEN max(std) ELSE stddev_samp(accuracy) END AS baseline_std,
               CASE WHEN favg(accuracy) < 1 THEN 1 - favg(accuracy) END AS baseline_error
        FROM usual GROUP BY ALL),
    compared AS (
        SELECT configurations.*, baseline_accuracy, baseline_error, baseline_std, baseline_seeds, baseline_networks,
               (error - baseline_error) / baseline_error AS relative_error_increase,
               accuracy_mean - baseline_accuracy AS difference
        FROM configurations LEFT JOIN dense USING ({", ".join(BASELINE_KEY)}))"""

_CONFIGURATIONS = f"{_PARTS} SELECT * FROM configurations"

_COMPARED = f"""{_PARTS},
    own AS MATERIALIZED (
        SELECT number, baseline, method, seed, accuracy FROM samples JOIN networks USING (number)
        WHERE source IN {OURS}),
    numbered AS (
        SELECT sparse.number, count(*) AS pairs, stddev_samp(sparse.accuracy - reference.accuracy) AS pairs_std,
               covar_samp(sparse.accuracy, reference.accuracy) AS pairs_covariance
        FROM own AS sparse JOIN own AS reference USING (baseline, seed)
        WHERE sparse.method != 'Dense' AND reference.method = 'Dense' GROUP BY ALL),
    pairs AS (  -- of one network: of several joined ones there are none
        SELECT {", ".join(CONFIGURATION_KEY)}, max(pairs) AS pairs, max(pairs_std) AS pairs_std,
               max(pairs_covariance) AS pairs_covariance
        FROM numbered JOIN networks USING (number) GROUP BY ALL HAVING count(*) = 1)
    SELECT * FROM compared LEFT JOIN pairs USING ({", ".join(CONFIGURATION_KEY)})"""

_DIFFICULTY = f"""{_PARTS}
    SELECT {", ".join(TASK_KEY)}, linear.protocol AS linear_protocol, "full".protocol AS full_protocol,
           "full".baseline_accuracy AS "full", linear.baseline_accuracy AS linear,
           "full".baseline_accuracy - linear.baseline_accuracy AS difficulty,
           ("full".baseline_seeds + linear.baseline_seeds)::BIGINT AS seeds
    FROM (SELECT * FROM dense WHERE transfer = 'full') AS "full"
    JOIN (SELECT * FROM dense WHERE transfer = 'linear') AS linear USING ({", ".join(TASK_KEY)})"""


def measured_in(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one of ``RESULT_METRICS``: "accuracy" for networks that classify images, mAP for detectors. The runs of a
    detector have mAP@0.5 as their accuracies, and here mAP@[.5:.95] in its place where that is asked for."""
    if metric not in RESULT_METRICS:
        raise unknown_name("metric", metric, RESULT_METRICS)
    if metric == "accuracy":
        return selected(results, ~results["metric"].isin([MAP, STRICT_MAP]))
    found = results[results["metric"] == metric]
    if metric == MAP:
        return found
    both = results[(results["metric"] == MAP) & results["map_best"].notna()]
    if both.empty:
        return found
    strict = {"accuracy_best": both["map_best"], "accuracy_final": both["map_final"], "metric": STRICT_MAP}
    return pd.concat([part for part in (found, both.assign(**strict)) if len(part)])


def joined(results: pd.DataFrame) -> pd.DataFrame:
    """The rows with networks of one recipe as one: of the same architecture, upstream data, method, nominal sparsity and training
    (length, label smoothing, layer distribution; see ``Provenance.recipe``), but of different upstream seeds.

    ``network`` is then a hash of what they have in common, and the column ``member`` the network itself. Networks of unknown
    recipe are never joined.
    """
    if results.empty:
        return results.assign(member=results["network"])
    recipe_of, recipes = grouped(results, RECIPE_KEY)
    if recipes["recipe"].eq("").all():
        return results.assign(member=results["network"])
    network_of, networks = grouped(results.assign(number=recipe_of), ["number", "network", "network_name"])
    counts = networks.groupby("number")["network"].nunique().to_numpy()
    several = (counts > 1) & recipes["recipe"].ne("").to_numpy()
    hashes = pd.util.hash_pandas_object(recipes.astype(str), index=False).map("{:016x}".format).to_numpy()
    recipe, joint = networks["number"].to_numpy(), several[networks["number"]]
    names = np.array([f"{count} networks" for count in counts], dtype=object)
    named = {"network": hashes[recipe], "network_name": names[recipe]}
    found = results.assign(member=results["network"])
    if not joint.any():
        return found
    return found.assign(
        **{
            name: _spread(networks[name].where(~joint, texts), network_of, results[name])
            for name, texts in named.items()
        }
    )


def _spread(texts: pd.Series, number: np.ndarray, former: pd.Series) -> pd.Series:
    """The text (of G) of each row by its ``number`` (N,), as categories where the ``former`` column has them."""
    if not isinstance(former.dtype, pd.CategoricalDtype):
        return pd.Series(texts.array.take(number), index=former.index)
    coded = texts.astype("category")
    return pd.Series(coded.array.take(number), index=former.index)


def grouped(rows: pd.DataFrame, columns: Sequence[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """The number (N,) of each row's group, and the groups (G rows): different values of ``columns``, in order of appearance.

    Column by column, which takes a fraction of the time of a ``groupby`` by several texts; or by ``CELL``, where that tells the
    columns. Categories are texts in the groups.
    """
    if CELL in rows and {*CONFIGURATION_KEY, "member"}.issuperset(columns):
        cells, first = _numbered(rows[CELL].to_numpy())
        numbers, found = grouped(rows[list(columns)].iloc[first], columns)
        return numbers[cells], found
    numbers, groups = np.zeros(len(rows), dtype=np.int64), 1
    for name in columns:
        codes, count = _codes(rows[name])
        if groups * count > 2**62:
            numbers, kept = pd.factorize(numbers)
            groups = len(kept)
        numbers *= count
        numbers += codes
        groups *= count
    numbers, first = _numbered(numbers)
    found = rows[list(columns)].iloc[first].reset_index(drop=True)
    coded = [name for name in columns if isinstance(found[name].dtype, pd.CategoricalDtype)]
    return numbers, found.astype(dict.fromkeys(coded, "str")) if coded else found


def selected(rows: pd.DataFrame, keep: pd.Series | np.ndarray) -> pd.DataFrame:
    """The rows to ``keep`` (N,), copied only where some are left out."""
    return rows if keep.all() else rows[keep]


def first_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """Of coded rows a run of each network on each task, which has all that they have in common; other rows as they are."""
    return rows.iloc[_numbered(rows[CELL].to_numpy())[1]] if CELL in rows else rows


def _numbered(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (N,) as numbers in order of appearance, and the places (G,) at which each appears first."""
    numbers, _ = pd.factorize(values)
    return numbers, np.flatnonzero(np.diff(np.maximum.accumulate(numbers), prepend=-1))


def _codes(values: pd.Series) -> tuple[np.ndarray, int]:
    """A number (N,) for each value, the same for equal and for missing ones, and how many numbers there are at most."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, missing = values.cat.codes.to_numpy(), len(values.cat.categories)
        return (np.where(codes < 0, missing, codes) if codes.min(initial=0) < 0 else codes), missing + 1
    if values.dtype.kind == "i" and len(values):
        low = int(values.min())
        return values.to_numpy() - low, int(values.max()) - low + 1
    codes, found = pd.factorize(values, use_na_sentinel=False)
    return codes, max(len(found), 1)


def _of_groups(rows: pd.DataFrame, columns: Sequence[str], wanted: pd.DataFrame) -> np.ndarray:
    """Whether each row (N,) has the values of ``columns`` of a row of ``wanted``."""
    numbers, groups = grouped(rows, columns)
    there = wanted[list(columns)].drop_duplicates().assign(there=True)
    return groups.merge(there, how="left", on=list(columns))["there"].notna().to_numpy()[numbers]


def per_configuration(results: pd.DataFrame, accuracy: str = "best", regroup: Regroup | None = None) -> pd.DataFrame:
    """Mean and sample standard deviation (n − 1) over the seeds of each network on each task.

    Returns one row per configuration with ``accuracy_mean``, ``accuracy_std`` (NaN if n = 1), ``seeds`` (n), ``runs`` (more
    than n where seeds were repeated) and ``error``. Of networks that are ``joined``, ``networks`` is the number: then
    ``accuracy_mean`` is the mean of their means, ``accuracy_std`` the deviation between networks, n their number, and
    ``seed_std`` the deviation between the seeds of one (root of the mean variance).

    ``regroup`` gets the networks, a row for each with its values of ``CONFIGURATION_KEY`` and ``member``, and returns them as
    they are to be averaged: with other values, fewer rows, or a row several times.
    """
    return _query(results, accuracy, _CONFIGURATIONS, CONFIGURATION_KEY, regroup)


def difference_to_dense(results: pd.DataFrame, accuracy: str = "best", regroup: Regroup | None = None) -> pd.DataFrame:
    """(err(D, sparse) − err(D, dense)) / err(D, dense) for each configuration, errors averaged over seeds first.

    Adds to ``per_configuration``: ``baseline_accuracy``, the mean of the ``baseline_networks`` dense networks' means, with
    ``baseline_std`` (over seeds; between networks if there are several) and ``baseline_seeds``; of several recipes the most
    frequent one's count (of equals, the first by name); ``relative_error_increase`` (0.1 means 10 % more errors than dense);
    ``difference`` of the accuracies, ``difference_low`` and ``difference_high``, its
    95 % interval, and ``interval``, the interval's method. A dense network belongs to the baseline if it has the same
    ``BASELINE_KEY``; the measures are NaN if there is none, and the increase if it makes no error. ``increase_error`` is the
    standard error of the increase over seeds: see ``statistics.ratio_error``.

    The interval is that of a t test, NaN without two samples on both sides: paired over seeds if both sides are the user's
    runs with the same seeds, which then also share the order of the training data; else Welch's. ``regroup`` as in
    ``per_configuration``.
    """
    return with_intervals(compared(results, accuracy, regroup))


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """``difference_to_dense`` from what ``compared`` has returned."""
    table = table.copy()
    one, paired, sparse = table["one"], table["paired"], table["method"] != "Dense"
    low, high = paired_interval(table["difference"], table["pairs_std"], table["pairs"])
    welch_low, welch_high = welch_interval(table["difference"], *_sides(table))
    table["difference_low"] = low.where(paired, welch_low).where(sparse)
    table["difference_high"] = high.where(paired, welch_high).where(sparse)
    names = np.where(paired, "paired t, over seeds", np.where(one, "Welch's t, over seeds", "Welch's t, over networks"))
    table["interval"] = pd.Series(names, index=table.index).where(table["difference_low"].notna(), "")
    return table.drop(columns=["pairs", "pairs_std", "one", "paired"])


def compared(results: pd.DataFrame, accuracy: str = "best", regroup: Regroup | None = None) -> pd.DataFrame:
    """``difference_to_dense`` before its intervals, which need SciPy: with ``pairs`` and ``pairs_std``, whether a row compares
    ``one`` network with one, and whether it is ``paired`` over seeds."""
    table = _query(results, accuracy, _COMPARED, CONFIGURATION_KEY, regroup)
    table["one"] = (table["baseline_networks"] == 1) & (table["networks"] == 1)
    same = (table["pairs"] == table["seeds"]) & (table["pairs"] == table["baseline_seeds"])
    table["paired"] = table["one"] & same
    covariance = (table["pairs_covariance"] / table["pairs"]).where(table["paired"], 0.0)
    errors = ratio_error(table["error"], table["baseline_error"], *_sides(table), covariance)
    table["increase_error"] = errors.where(table["method"] != "Dense")
    return table.drop(columns=["pairs_covariance", "baseline_error"])


def _sides(table: pd.DataFrame) -> tuple[tuple[pd.Series, pd.Series], tuple[pd.Series, pd.Series]]:
    """The deviation and number of samples of each row and of its baseline."""
    reference = table["baseline_seeds"].where(table["baseline_networks"] == 1, table["baseline_networks"])
    return (table["accuracy_std"], table["seeds"]), (table["baseline_std"], reference)


def summary(results: pd.DataFrame, accuracy: str = "best") -> pd.DataFrame:
    """Mean over tasks of the relative error increase, for each sparse network (the paper's figure 2).

    ``standard_error`` is the sample standard deviation (n − 1) over √n, NaN if n = 1; ``tasks`` is n, the number of
    tasks with a dense baseline; ``runs`` is the number of runs on those tasks, and of all runs where there are none.
    ``seed_error`` is the standard error over seeds of the same mean (``statistics.ratio_error``), NaN where a task has one seed.
    """
    return over_tasks(compared(results, accuracy))


def over_tasks(table: pd.DataFrame) -> pd.DataFrame:
    """``summary`` from what ``compared`` has returned."""
    sparse = table[table["method"] != "Dense"]
    number, networks = grouped(sparse, SUMMARY_KEY)
    sparse = sparse.assign(number=number, squares=sparse["increase_error"] ** 2)
    found = sparse.groupby("number").agg(
        mean_relative_error_increase=("relative_error_increase", "mean"),
        standard_error=("relative_error_increase", "sem"),
        tasks=("relative_error_increase", "count"),
        runs=("runs", "sum"),
    )
    placed = sparse.dropna(subset=["relative_error_increase"]).groupby("number")
    found["runs"] = placed["runs"].sum().reindex(found.index).fillna(found["runs"]).astype(int)
    squares = placed["squares"]
    found["seed_error"] = np.sqrt(squares.sum(min_count=1).where(squares.count() == placed.size()))
    found["seed_error"] /= found["tasks"]
    return pd.concat([networks, found], axis=1).sort_values(SUMMARY_KEY, ignore_index=True)


def difficulty(results: pd.DataFrame, accuracy: str = "best") -> pd.DataFrame:
    """Task difficulty: dense full accuracy minus dense linear accuracy, by source, architecture, upstream and dataset.

    One row for each pair of a linear and a full protocol (``linear_protocol``, ``full_protocol``), which are never averaged,
    with ``full``, ``linear``, ``difficulty`` and the ``seeds`` of both. Several dense networks count as their mean.
    """
    dense = results[results["method"] == "Dense"]
    return _query(dense, accuracy, _DIFFICULTY, [*TASK_KEY, "linear_protocol", "full_protocol"])


def over_same_tasks(table: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy of each network over the tasks that all networks of its series have, so that the means compare.

    ``table`` is from ``per_configuration``. Returns a row for each network with ``accuracy_mean``, ``tasks``,
    ``runs`` and ``standard_error`` of the mean over seeds: √(Σ std²/n) over the number of tasks, NaN where a task has one seed.
    """
    networks = table.drop_duplicates(SUMMARY_KEY).groupby(SERIES_KEY).size().rename("in_series")
    table = table.join(networks, on=SERIES_KEY)
    shared = table.groupby(BASELINE_KEY)["method"].transform("size") == table["in_series"]
    means = table[shared].assign(variance=lambda rows: rows["accuracy_std"] ** 2 / rows["seeds"])
    grouped = means.groupby(SUMMARY_KEY)
    found = grouped.agg(accuracy_mean=("accuracy_mean", "mean"), tasks=("dataset", "size"), runs=("runs", "sum"))
    variance = grouped["variance"].agg(lambda values: values.sum(skipna=False))
    found["standard_error"] = np.sqrt(variance) / found["tasks"]
    return found.reset_index()


def with_sizes(means: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The means, a row for each network, with columns ``SIZES``, averaged over ``runs``: NaN for published ones."""
    runs = runs[runs[SIZES].notna().any(axis=1)]
    of_run, networks = grouped(runs, SUMMARY_KEY)
    sizes = runs[SIZES].groupby(of_run).mean()
    numbers, _ = grouped(pd.concat([means[SUMMARY_KEY], networks]), SUMMARY_KEY)
    sizes = sizes.set_axis(numbers[len(means) :]).reindex(numbers[: len(means)])
    return means.assign(**{name: sizes[name].to_numpy() for name in SIZES})


def with_front(table: pd.DataFrame, axis: str) -> pd.DataFrame:
    """The table with ``front``: whether a row is Pareto-optimal within its series and transfer.

    Compared are ``accuracy_mean`` and ``axis``, which is ``sparsity`` (larger is better) or one of ``SIZES`` (smaller is).
    """
    ranked = table.assign(saved=table[axis] if axis == "sparsity" else -table[axis])
    fronts = [pareto_optimal(group, "saved", "accuracy_mean") for _, group in ranked.groupby(SERIES_KEY)]
    return table.assign(front=pd.concat(fronts))


def ordered_tasks(results: pd.DataFrame, order: str = "difficulty") -> dict[tuple[str, str], float]:
    """The tasks of these rows (dataset and content hash) with their difficulty, NaN where unknown; easiest first, or by name.

    ``order`` is ``difficulty`` or ``name``. The paper's difficulty counts where it is known. Of the user's runs that pair of a
    linear and a full protocol counts that has most seeds; of several such, the first by name. Tasks of unknown difficulty come
    last.
    """
    known = difficulty(results).sort_values("seeds", ascending=False, kind="stable")
    published = known[known["source"] == "published"].drop_duplicates("dataset").set_index("dataset")["difficulty"]
    own = known.drop_duplicates(["dataset", "dataset_hash"]).set_index(["dataset", "dataset_hash"])["difficulty"]
    pairs = grouped(results, ["dataset", "dataset_hash"])[1].itertuples(index=False, name=None)
    by_name = sorted(pairs, key=lambda task: (task_label(task[0]), task[1]))
    tasks = {task: float(published.get(task[0], own.get(task, np.nan))) for task in by_name}
    if order == "name":
        return tasks
    return dict(sorted(tasks.items(), key=lambda item: (np.isnan(item[1]), item[1])))


def underlying_runs(rows: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """The runs that these rows of a summary or task table average, and the dense runs they are compared with."""
    baseline = [name for name in BASELINE_KEY if name in means]
    of_means = _of_groups(rows, [*baseline, *NETWORK_KEY], means)
    dense = (rows["method"] == "Dense").to_numpy() & _of_groups(rows, baseline, means) & ~of_means
    return pd.concat([rows[of_means], rows[dense]]) if dense.any() else rows[of_means]


def present(transfers: Iterable[str], rows: pd.DataFrame) -> list[str]:
    """Those of the transfers that the rows have."""
    return [transfer for transfer in transfers if (rows["transfer"] == transfer).any()]


def has_disputed_rows(rows: pd.DataFrame) -> bool:
    """Whether there are published rows that the paper's text contradicts: RigL under full transfer."""
    rigl = rows["method"].str.startswith("RigL") & (rows["transfer"] == "full") & (rows["source"] == "published")
    return bool(rigl.any())


def is_hidden_lottery_ticket(rows: pd.DataFrame) -> pd.Series:
    """True for LTH-T under linear transfer, which the paper leaves out of its figures."""
    return (rows["method"] == "LTH-T") & (rows["transfer"] == "linear")


def _query(
    results: pd.DataFrame, accuracy: str, query: str, key: list[str], regroup: Regroup | None = None
) -> pd.DataFrame:
    """The query over ``runs``, the rows that have the chosen accuracy, and their ``networks``, sorted by ``key``."""
    if accuracy not in ACCURACIES:
        raise unknown_name("accuracy", accuracy, ACCURACIES)
    if "member" not in results:
        results = results.assign(member=results["network"])
    rows = results[[*CONFIGURATION_KEY, "member", "seed", ACCURACIES[accuracy]]]
    rows = selected(rows, rows[ACCURACIES[accuracy]].notna())
    number, networks = grouped(rows, [*CONFIGURATION_KEY, "member"])
    networks = networks.assign(number=np.arange(len(networks)))
    networks = regroup(networks) if regroup else networks
    networks = networks.assign(baseline=grouped(networks, BASELINE_KEY)[0])
    seed, seeds = _codes(rows["seed"])
    sample = number * seeds + seed
    ordered = np.sort(sample)
    twice = ordered[:-1][ordered[1:] == ordered[:-1]]
    runs = {"number": number, "seed": seed, "accuracy": rows[ACCURACIES[accuracy]].to_numpy(float)}
    runs["repeated"] = pd.Series(sample).isin(twice).to_numpy()
    with _memory().cursor() as cursor:
        cursor.register("runs", pd.DataFrame(runs))
        cursor.register("networks", networks)
        found = cursor.execute(f"{query} ORDER BY {', '.join(key)}").df()
    # DuckDB returns empty text columns as objects, and counts with gaps as nullable integers.
    kinds: dict[str, Any] = {name: "str" for name in key if found[name].dtype == "object"}
    kinds |= {name: float for name in found if found[name].dtype == "Int64"}
    return found.astype(kinds) if kinds else found


@functools.cache
def _memory() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()
