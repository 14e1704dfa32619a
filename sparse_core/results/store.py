"""The results store: published, shipped, measured and imported runs as one tidy relation in DuckDB.

The .duckdb file is a cache of the published and shipped tables and the run records. Only the process that serves the dashboard
opens it; workers and the command line query an in-memory copy. Deleting the file loses nothing.
"""

import copy
import hashlib
import json
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import PUBLISHED, SHIPPED, atomic_file, printable_values
from sparse_core.results import imported
from sparse_core.results.filters import RunFilter
from sparse_core.results.measures import CELL, CONFIGURATION_KEY, grouped, selected
from sparse_core.results.records import Record, Records, write_compacted

log = logging.getLogger(__name__)

SOURCES = ("published", "shipped", "measured")
SHIPPED_ID = "shipped-"  # before the run ids of shipped results: the same run may be made on this machine, too

# A network is the hash of its weights and mask, empty for the paper's; its recipe says how it was trained, where that is known.
_SCHEMA = """
    source VARCHAR, architecture VARCHAR, upstream VARCHAR, method VARCHAR, sparsity DOUBLE, recipe VARCHAR,
    network VARCHAR, network_name VARCHAR, transfer VARCHAR, dataset VARCHAR, dataset_hash VARCHAR, protocol VARCHAR,
    seed INTEGER, replicate INTEGER, metric VARCHAR, accuracy_best DOUBLE, accuracy_final DOUBLE,
    map_best DOUBLE, map_final DOUBLE, backbone VARCHAR,
    nonzero_parameters BIGINT, multiply_adds BIGINT, file_size BIGINT, seconds_training DOUBLE,
    run_id VARCHAR PRIMARY KEY, created_at TIMESTAMP,
    spec VARCHAR"""
SHIPPED_RESULTS = SHIPPED / "results.parquet"
COLUMNS = tuple(column.split()[0] for column in _SCHEMA.split(","))
_REPEATED = [column.split()[0] for column in _SCHEMA.split(",") if column.endswith("VARCHAR") and "spec" not in column]
_ALL = """
    SELECT * EXCLUDE (first_name) REPLACE (first_name AS network_name) FROM (
        SELECT *, first(network_name) OVER (PARTITION BY network ORDER BY created_at, run_id) AS first_name
        FROM results)
    ORDER BY source DESC, architecture, transfer, method, sparsity, dataset, seed, run_id"""

_PUBLISHED_VALUES: dict[str, Any] = {"source": "published", "upstream": "ImageNet", "protocol": "the paper's protocol"}
_PUBLISHED_VALUES |= {"metric": "accuracy", "dataset_hash": "", "network": "", "network_name": "", "backbone": ""}
_PUBLISHED_VALUES |= {"spec": "{}", "recipe": ""}
_PUBLISHED_VALUES |= dict.fromkeys(
    (
        "accuracy_final",
        "map_best",
        "map_final",
        "nonzero_parameters",
        "multiply_adds",
        "file_size",
        "seconds_training",
        "created_at",
    )
)


class Store:
    """Results to read, from memory or from a cache file, which one process at a time can hold.

    ``records`` are the measured runs; ``database`` is the cache file, None for memory. A cache file that is damaged or of
    another version is rebuilt; if another process holds it, or it cannot be written, memory is used.
    """

    def __init__(self, records: Records, database: Path | None = None) -> None:
        self.records = records
        self.database = database
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] = ()
        self._read: dict[bool, pd.DataFrame] = {}  # by whether texts are coded; shared with ``filtered`` ones
        self._inode = 0
        self._kept: RunFilter | None = None
        self._connection = self._open()
        self.refresh()

    @property
    def kept(self) -> RunFilter:
        """The filter of ``filtered``; one that keeps all where there is none."""
        return self._kept or RunFilter()

    def filtered(self, kept: RunFilter) -> "Store":
        """The same results with only those rows that the filter keeps; it shares the cache file with this one."""
        store = copy.copy(self)
        store._kept = kept if kept.count else None
        return store

    def refresh(self) -> bool:
        """Read the runs added or deleted since the last call; True if anything changed."""
        with self._lock:
            if self.database and _inode(self.database) != self._inode:
                self._connection.close()
                self._connection, self._seen = self._open(), ()
            fingerprint = (*self.records.fingerprint(), *imported.fingerprint(self.records.folder))
            if fingerprint == self._seen:
                return False
            try:
                _synchronise(self._connection, self.records)
            except duckdb.Error as error:  # a full disk raises different errors depending on the operation
                if self.database is None:
                    raise
                self._connection = self._in_memory(error)
                _synchronise(self._connection, self.records)
            self._seen = fingerprint
            self._read.clear()
            return True

    @property
    def version(self) -> tuple[int, ...]:
        """Changes whenever the rows do; a cache key for values computed from them."""
        return (self._inode, *self._seen, self.records.annotations.fingerprint(), hash(self._kept))

    def results(
        self,
        *,
        source: str = "all",
        architecture: str | None = None,
        transfer: str | None = None,
        methods: Sequence[str] | None = None,
        datasets: Sequence[str] | None = None,
        sparsity: tuple[float, float] = (0.0, 1.0),
        archived: bool = False,
        coded: bool = False,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """One row per run, columns ``COLUMNS``, filtered. None means no filter; ``sparsity`` bounds are inclusive.

        Dense rows pass every method and sparsity filter: they are the baseline of the others. A network that was imported
        under several names has that of its first run. With ``coded``, texts that repeat are categories, in alphabetical order,
        and there is no ``spec``: a million rows are then filtered and averaged in a fraction of the time; so they are with few
        ``columns`` (None: all).
        """
        known = ("all", *SOURCES, *imported.sources(self.records.folder))
        if source not in known:
            raise unknown_name("source", source, known)
        rows = self._rows(coded)
        keep = pd.Series(True, index=rows.index)
        wanted = {"source": None if source == "all" else source, "architecture": architecture, "transfer": transfer}
        for name, value in wanted.items():
            if value is not None:
                keep &= rows[name] == value
        if datasets is not None:
            keep &= rows["dataset"].isin(datasets)
        if methods is not None or sparsity != (0.0, 1.0):
            sparse = rows["sparsity"].between(*sparsity)
            sparse = sparse if methods is None else sparse & rows["method"].isin(methods)
            keep &= sparse | (rows["method"] == "Dense")
        if not archived and (hidden := self.records.annotations.archived()):
            keep &= ~rows["run_id"].isin(hidden)
        if self._kept:
            keep &= self._kept.keeps(rows, self.records.annotations.all())
        return selected(rows if columns is None else rows[list(columns)], keep).reset_index(drop=True)

    def values(self, column: str) -> list[str]:
        """The different values of one column, sorted."""
        if column not in COLUMNS:
            raise unknown_name("column", column, COLUMNS)
        rows = self.results(coded=True) if self._kept else self._rows(coded=True)
        return sorted(rows[column].dropna().unique().tolist())

    def read(self, run_ids: Sequence[str]) -> list[Record]:
        """The records of shipped or measured runs in this order; those that are unknown are left out. Each file is read once."""
        shipped = {run_id.removeprefix(SHIPPED_ID) for run_id in run_ids if run_id.startswith(SHIPPED_ID)}
        own = set(run_ids) - {SHIPPED_ID + run_id for run_id in shipped}
        found = {record.run_id: record for record in self.records.read_many(own)} if own else {}
        if shipped:
            records = Records(SHIPPED_RESULTS.parent).read_many(shipped)
            found |= {
                SHIPPED_ID + record.run_id: replace(record, run_id=SHIPPED_ID + record.run_id) for record in records
            }
        return [found[run_id] for run_id in run_ids if run_id in found]

    def export(self, target: Path) -> int:
        """Write the whole relation as Parquet or CSV, by the target's ending; returns the number of rows."""
        rows = self.results(archived=True)
        write = {".parquet": rows.to_parquet, ".csv": rows.to_csv}.get(target.suffix)
        if write is None:
            raise InputError(f"Expected a file ending in .parquet or .csv, got '{target.name}'.")
        with atomic_file(target) as temporary:
            write(temporary, index=False)
        return len(rows)

    def close(self) -> None:
        """Release the cache file."""
        self._connection.close()

    def _rows(self, coded: bool) -> pd.DataFrame:
        """All rows in their order, read once for each state of the store. Never change them."""
        with self._lock:
            if False not in self._read:
                self._read[False] = self._connection.execute(_ALL).df()
            if coded and True not in self._read:
                self._read[True] = coded_rows(self._read[False])
            return self._read[coded]

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self.database is None:
            return _fresh(":memory:")
        try:
            self.database.parent.mkdir(parents=True, exist_ok=True)
            connection = _cache(self.database)
            self._inode = _inode(self.database)
            return connection
        except (duckdb.IOException, OSError) as error:
            return self._in_memory(error)

    def _in_memory(self, error: Exception) -> duckdb.DuckDBPyConnection:
        """A connection without the cache file, after ``error``."""
        log.warning("The cache %s is not used: %s", self.database, error)
        self.database = None
        return _fresh(":memory:")


def coded_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with texts that repeat as categories, counts as floats (NaN: unknown), ``measures.CELL``, and without ``spec``:
    quicker to filter and to average."""
    counts = [name for name in rows if rows[name].dtype == "Int64"]
    coded = rows.drop(columns="spec").astype(dict.fromkeys(_REPEATED, "category") | dict.fromkeys(counts, "float64"))
    return coded.assign(**{CELL: grouped(coded, CONFIGURATION_KEY)[0].astype("int32")})


def rebuild(records: Records, database: Path | None = None) -> int:
    """Rebuild the cache from the published tables and the run records; returns the number of rows.

    The new file is built beside the old one and replaces it at once: a running dashboard notices and opens the new one.
    """
    database = database or default_database(records)
    with atomic_file(database) as temporary:
        temporary.unlink()
        try:
            with _fresh(str(temporary)) as connection:
                _synchronise(connection, records)
                (rows,) = connection.execute("SELECT count(*) FROM results").fetchone() or (0,)
        finally:
            Path(f"{temporary}.wal").unlink(missing_ok=True)
    return rows


def default_database(records: Records) -> Path:
    """The cache file that belongs to these records."""
    return records.folder / "results.duckdb"


def result_row(record: Record) -> dict[str, Any]:
    """One run record as a row of the relation, of the user's own runs."""
    spec, result = record.spec, record.result
    row = {
        "source": "measured",
        "recipe": result.get("recipe", ""),
        **{name: result[name] for name in ("architecture", "upstream", "method", "sparsity", "protocol", "metric")},
        **{name: result[name] for name in ("accuracy_best", "accuracy_final")},
        **{name: result.get(name) for name in ("map_best", "map_final")},  # mAP@[.5:.95]: detectors only
        **{name: spec[name] for name in ("transfer", "dataset_hash", "seed", "replicate")},
        "backbone": spec["backbone"],
        "network": spec.get("backbone_hash") or spec["backbone"],
        "network_name": network_name(spec["backbone"]),
        # Records from before sizes were stored lack them.
        **{name: result.get(name) for name in ("nonzero_parameters", "multiply_adds", "file_size")},
        "seconds_training": result["seconds_training"],
        "dataset": result["dataset_name"],
        "run_id": record.run_id,
        "created_at": pd.Timestamp(result["created_at"]),
        "spec": json.dumps(spec, sort_keys=True),
    }
    return printable_values(row)  # DuckDB takes UTF-8 only, and a path may be none


def network_name(backbone: str) -> str:
    """The name of a network by that of its backbone, which for a checkpoint file is ``ARCHITECTURE:PATH``."""
    return Path(backbone.partition(":")[2]).name or backbone


def published_rows() -> pd.DataFrame:
    """The paper's runs as rows of the relation. Their accuracy is the best over a run's epochs; the final one is unknown."""
    rows = pd.read_csv(PUBLISHED / "transfer_accuracy.csv").rename(columns={"accuracy": "accuracy_best"})
    replicates = rows.groupby(["architecture", "transfer", "method", "sparsity", "dataset", "seed"])
    rows["replicate"] = replicates.cumcount()
    rows["run_id"] = [f"published-{number}" for number in range(1, len(rows) + 1)]
    return rows.assign(**_PUBLISHED_VALUES)[list(COLUMNS)]


def shipped_rows() -> pd.DataFrame:
    """The runs that come with the product, of the networks of its zoo; none where the file is missing."""
    if not SHIPPED_RESULTS.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    rows = pd.read_parquet(SHIPPED_RESULTS)
    rows = rows.assign(source="shipped", run_id=SHIPPED_ID + rows["run_id"])
    return rows.reindex(columns=list(COLUMNS))  # the file may be of an earlier version


def write_shipped(records: Sequence[Record], folder: Path) -> None:
    """Write the records as ``data/measured`` has them: a row for each run, and its record with the details."""
    rows = pd.DataFrame([result_row(record) for record in records], columns=list(COLUMNS))
    with atomic_file(folder / SHIPPED_RESULTS.name) as temporary:
        rows.to_parquet(temporary, index=False, compression="zstd")
    write_compacted(folder / "runs" / "compacted-shipped.parquet", records)


def _fresh(location: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(location)
    connection.execute(f"CREATE TABLE results ({_SCHEMA})")
    _insert(connection, published_rows())
    _insert(connection, shipped_rows())
    connection.execute("CREATE TABLE cache_version AS SELECT ? AS version", [_version()])
    connection.execute("CHECKPOINT")
    return connection


def _cache(database: Path) -> duckdb.DuckDBPyConnection:
    """The cache file, rebuilt if damaged or of another version. Raises duckdb.IOException if another process holds it."""
    connection = None
    try:
        connection = duckdb.connect(str(database))
        if connection.execute("SELECT version FROM cache_version").fetchone() == (_version(),):
            return connection
    except duckdb.Error as error:
        if isinstance(error, duckdb.IOException) and "lock" in str(error).lower():
            raise
    if connection is not None:
        connection.close()
    database.unlink(missing_ok=True)
    Path(f"{database}.wal").unlink(missing_ok=True)
    return _fresh(str(database))


def _synchronise(connection: duckdb.DuckDBPyConnection, records: Records) -> None:
    on_disk = records.ids()
    query = "SELECT run_id FROM results WHERE source = 'measured'"
    in_store = {run_id for (run_id,) in connection.execute(query).fetchall()}
    gone = list(in_store - on_disk)
    new = [result_row(record) for record in records.read_many(on_disk - in_store)]
    connection.execute("BEGIN")
    connection.execute("DELETE FROM results WHERE list_contains(?, run_id)", [gone])
    if new:
        _insert(connection, pd.DataFrame(new, columns=list(COLUMNS)))
    connection.execute("DELETE FROM results WHERE starts_with(run_id, ?)", [imported.PREFIX])
    others = imported.rows(records.folder, COLUMNS)
    if len(others):
        _insert(connection, others)
    connection.execute("COMMIT")
    connection.execute("CHECKPOINT")


def _insert(connection: duckdb.DuckDBPyConnection, rows: pd.DataFrame) -> None:
    connection.register("incoming", rows)
    connection.execute(f"INSERT INTO results SELECT {', '.join(COLUMNS)} FROM incoming")
    connection.unregister("incoming")


def _version() -> str:
    table = (PUBLISHED / "transfer_accuracy.csv").read_bytes()
    shipped = SHIPPED_RESULTS.read_bytes() if SHIPPED_RESULTS.is_file() else b""
    return hashlib.sha256(table + shipped + repr((_SCHEMA, _PUBLISHED_VALUES)).encode()).hexdigest()[:16]


def _inode(file: Path) -> int:
    try:
        return os.stat(file).st_ino
    except FileNotFoundError:
        return 0
