"""Checks of PostgreSQL: one primary and its streaming replicas.

Each check opens a session of its own when it is read (`postgres_session`: read-only, with time
limits). The role needs SELECT on the tables and membership in `pg_monitor`, and nothing more.

**Lag** is the time until a replica has replayed what the primary had written when it was asked, by
their log positions. So an idle primary does not make it grow, as it does the age of the last
replayed transaction (`pg_last_xact_replay_timestamp`); that is looked at only where a replica does
not catch up. Whether a replica receives anything at all is a check of its own.

**Rows** of a small table are counted whole, those of a large one through an index over a recent
slice. Where a large table has no such index, an estimate (pages in the file × rows a page) stands
in, and warns: it shows that a file differs, but a replica has its primary's statistics.

**The canary** is the one thing that writes, only where `canary.enabled` allows it: one row a region
in a small table of its own, which the database's owner makes:

    CREATE TABLE tars_ga_canary (region text PRIMARY KEY, token text NOT NULL);
    GRANT SELECT, INSERT, UPDATE ON tars_ga_canary TO …;
"""

from __future__ import annotations

import contextlib
import os
import secrets
import statistics
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tars_ga_lib.grammar import Limit, format_duration
from tars_ga_lib.system import replication
from tars_ga_lib.system.check import Check, NotMeasured, Reading
from tars_ga_lib.system.postgres_session import (
    CancelledError,
    FullError,
    Server,
    Session,
    connected,
    server,
)
from tars_ga_lib.system.server import check_of, writer
from tars_ga_lib.targets import PostgresQuery, TableCount, ValidationTargets

_check = partial(check_of, "PostgreSQL")

WRITTEN = "SELECT pg_current_wal_lsn()::text"
REPLAYED = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
BEHIND = """\
SELECT pg_wal_lsn_diff(%s::pg_lsn, pg_last_wal_replay_lsn())::bigint,
    extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8,
    pg_is_wal_replay_paused(), current_setting('recovery_min_apply_delay')"""
IDENTITY = "SELECT pg_is_in_recovery(), (SELECT system_identifier FROM pg_control_system())"
RECEIVER = "SELECT coalesce(status, 'not shown to us') FROM pg_stat_wal_receiver WHERE pid > 0"
CANARY = """\
INSERT INTO {} (region, token) VALUES (%s, %s)
ON CONFLICT (region) DO UPDATE SET token = excluded.token"""
SEEN = "SELECT EXISTS (SELECT FROM {} WHERE region = %s AND token = %s)"
SIZE = """\
SELECT count(*), coalesce(sum(CASE WHEN c.reltuples > 0 AND c.relpages > 0
    THEN c.reltuples / c.relpages * f.pages ELSE 291 * f.pages END), 0)::float8
FROM pg_class AS c,
    LATERAL (SELECT pg_relation_size(c.oid) / current_setting('block_size')::int) AS f (pages)
WHERE c.relkind IN ('r', 'm') AND (c.oid = %s::regclass
    OR c.oid IN (SELECT relid FROM pg_partition_tree(%s::regclass) WHERE isleaf))"""
# A page of a table that was never analysed is taken to be as full as a page can be: 291 rows.
INDEX = """\
SELECT i.indisvalid, (SELECT t.relname::text FROM pg_class AS t WHERE t.oid = i.indrelid), ARRAY(
    SELECT p.relname::text FROM pg_class AS p WHERE p.oid = i.indexrelid
        OR p.oid IN (SELECT relid FROM pg_partition_tree(i.indexrelid)))
FROM pg_index AS i WHERE i.indexrelid = to_regclass(%s)"""
POOL = """\
SELECT (SELECT sum(numbackends) FROM pg_stat_database)::int,
    current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int"""

_YES = Limit("==", 1)


def checks(targets: ValidationTargets, environ: Mapping[str, str] = os.environ) -> list[Check]:
    """Return the checks of the section `postgres`; connects nowhere."""
    settings = targets.postgres
    if settings is None:
        return []
    with contextlib.suppress(ImportError):  # then each check says so
        # Now, as an import beside a measurement would disturb it.
        import psycopg  # noqa: F401

    primary = server(settings.primary, settings, environ)
    replicas = [server(each, settings, environ) for each in settings.replicas]
    every = [primary, *replicas]
    found = []
    for replica in replicas:
        found += [_streaming(primary, replica), _lag(primary, replica)]
        found += [_rows(primary, replica, table) for table in settings.tables]
        if settings.canary.enabled:
            found.append(_canary(writer(primary, settings.canary, environ, "user"), replica))
    for query in settings.queries:
        for each in {"primary": [primary], "replicas": replicas, "all": every}[query.on]:
            found.append(_timed(each, query))
            if query.index is not None:
                found.append(_indexed(each, query, query.index))
    return found + [_pool(each) for each in every]


def _both(first: str, second: str) -> str:
    return f"-- on the primary\n{first};\n-- on the replica\n{second}"


def _quoted(name: str) -> str:
    """Write a name, of a schema too where it has one, as SQL."""
    return ".".join('"{}"'.format(each.replace('"', '""')) for each in name.split("."))


# --- replication ---------------------------------------------------------------------------------


def _streaming(primary: Server, replica: Server) -> Check:
    return _check(
        "streaming",
        "receives from the primary",
        "replication",
        replica,
        _YES,
        partial(_read_streaming, primary, replica),
        _both(IDENTITY, f"{IDENTITY};\n{RECEIVER}"),
        also=primary,
    )


def _read_streaming(primary: Server, replica: Server) -> Reading:
    with connected(replica) as theirs:
        standby, follows = theirs.row(IDENTITY)
        receiver = theirs.row(RECEIVER)
    if not standby:
        return Reading(0, f"{replica.region} is no standby: it was promoted, or never was one")
    if not receiver:
        return Reading(0, f"no WAL receiver runs in {replica.region}: nothing reaches it")
    with connected(primary) as ours:
        recovering, identity = ours.row(IDENTITY)
    if recovering:
        return Reading(0, f"{primary.region}, named as the primary, is itself a standby")
    if identity != follows:
        return Reading(0, f"{replica.region} is a copy of another system than {primary.region}")
    (status,) = receiver
    streams = status in ("streaming", "not shown to us")
    return Reading(float(streams), f"the status of its WAL receiver: {status}")


def _lag(primary: Server, replica: Server) -> Check:
    return _check(
        "replication_lag",
        "replication lag",
        "replication",
        replica,
        primary.settings.replication_lag,
        partial(_read_lag, primary, replica),
        _both(WRITTEN, f"{REPLAYED};\n-- where that stays false\n{BEHIND}"),
        also=primary,
        measure="replication_lag",
        unit="s",
        warning=primary.settings.replication_lag_warning,
    )


def _read_lag(primary: Server, replica: Server) -> Reading:
    positions: list[str] = []
    with connected(primary) as ours, connected(replica) as theirs:
        if not theirs.row(IDENTITY)[0]:
            raise NotMeasured("refused", f"{replica} is no standby, so it has no lag to ask for")

        def mark() -> str:
            positions.append(_written(ours))
            return positions[-1]

        lag = replication.worst_lag(lambda: replication.catch_up(mark, partial(_replayed, theirs)))
        if lag.reached:
            idle = len(set(positions)) == 1
            return lag.reading("the primary wrote nothing meanwhile" if idle else "")
        return _stuck(replica, lag.low, theirs.row(BEHIND, positions[-1:]))


def _stuck(replica: Server, waited: float, behind: tuple[Any, ...]) -> Reading:
    """Return the lag of a replica that did not catch up.

    What it lacks was written at least as long ago as we waited, and after the last transaction
    that it replayed.
    """
    length, age, paused, delay = behind
    high = max(waited, age or 0.0)
    details = [
        f"{replica.region} is {length:,} bytes behind and did not catch up in {waited:.3g} s"
    ]
    if age is not None:
        details.append(f"the last transaction that it replayed is {age:.3g} s old")
    if paused:
        details.append("its replay is paused")
    if delay != "0":
        details.append(f"its recovery_min_apply_delay is {delay}")
    return Reading(high, "; ".join(details), interval=(waited, high))


def _written(session: Session) -> str:
    return str(session.row(WRITTEN)[0])


def _replayed(session: Session, position: str) -> bool:
    return bool(session.row(REPLAYED, [position])[0])


def _canary(primary: Server, replica: Server) -> Check:
    table = _quoted(primary.settings.canary.table)
    return _check(
        "canary_lag",
        "a canary row arrives",
        "replication",
        replica,
        primary.settings.replication_lag,
        partial(_read_canary, primary, replica, CANARY.format(table), SEEN.format(table)),
        _both(CANARY.format(table), SEEN.format(table)),
        also=primary,
        measure="replication_lag",
        unit="s",
        warning=primary.settings.replication_lag_warning,
    )


def _read_canary(primary: Server, replica: Server, write: str, seen: str) -> Reading:
    with connected(primary, write=True) as ours, connected(replica) as theirs:

        def mark() -> tuple[str, str]:
            values = (replica.region, secrets.token_hex(8))
            ours.run(write, values)
            return values

        def reached(values: tuple[str, str]) -> bool:
            return bool(theirs.row(seen, values)[0])

        lag = replication.worst_lag(lambda: replication.catch_up(mark, reached))
    if not lag.reached:
        return lag.reading(f"the canary row was not in {replica.region} after {lag.low:.3g} s")
    return lag.reading()


# --- rows ----------------------------------------------------------------------------------------


def _rows(primary: Server, replica: Server, table: TableCount) -> Check:
    return _check(
        "row_count",
        f"rows of {table.name} that differ from the primary's",
        "replication",
        replica,
        table.difference,
        partial(_read_rows, primary, replica, table),
        f"{_whole(table)};\n-- beyond {table.exact_below} rows\n"
        + (SIZE if table.by is None else _slice(table, table.by)),
        also=primary,
        rest=table.name,
        measure="count_difference",
        unit="count",
    )


def _whole(table: TableCount) -> str:
    return f"SELECT count(*) FROM {_quoted(table.name)}"


def _slice(table: TableCount, by: str) -> str:
    """Return the query that counts the rows of a recent time, up to `settle` before its end."""
    return (
        f"{_whole(table)}\nWHERE {_quoted(by)} >= %s::timestamptz - interval '{table.within} s'\n"
        f"    AND {_quoted(by)} < %s::timestamptz - interval '{table.settle} s'"
    )


def _read_rows(primary: Server, replica: Server, table: TableCount) -> Reading:
    with connected(primary) as ours, connected(replica) as theirs:
        size = _size(ours, table.name)
        query, values, how = _whole(table), (), "counted whole"
        if size > table.exact_below:
            if table.by is None:
                return _compare_sizes(primary, replica, table, size, _size(theirs, table.name))
            query, values = _slice(table, table.by), ours.row("SELECT now()::text") * 2
            how = f"counted over the last {format_duration(table.within)} by {table.by}"
            for each, session in ((primary, ours), (replica, theirs)):
                _must_not_scan(each, session, table, query, values)
        follows = [True]

        def on_replica() -> int:
            if follows[0]:  # one that has not caught up is not waited for again
                lag = replication.catch_up(lambda: _written(ours), partial(_replayed, theirs))
                follows[0] = lag.reached
            return int(theirs.row(query, values)[0])

        counts = replication.compare(lambda: int(ours.row(query, values)[0]), on_replica)
    if counts.empty:
        raise NotMeasured("no_rows", f"{table.name} has no rows to compare, {how}")
    details = f"{primary.region} {counts.before:,}, {replica.region} {counts.replica:,}, {how}"
    if not follows[0]:
        details += "; the replica did not catch up with the primary before it was counted"
    return Reading(counts.difference, details)


def _size(session: Session, name: str) -> float:
    """Return how many rows a table has, as its file's size says, partitions included."""
    tables, rows = session.row(SIZE, [_quoted(name)] * 2)
    if not tables:
        raise NotMeasured("refused", f"{name} is no table of its own, so its rows are not counted")
    return float(rows)


def _compare_sizes(
    primary: Server,
    replica: Server,
    table: TableCount,
    ours: float,
    theirs: float,
) -> Reading:
    return Reading(
        abs(round(ours) - round(theirs)),
        f"{primary.region} about {ours:,.0f}, {replica.region} about {theirs:,.0f}",
        "estimated from the size of the files, in which rows may be missing; to have them counted, "
        "name a time column that has an index as 'by'",
    )


def _must_not_scan(
    at: Server, session: Session, table: TableCount, query: str, values: tuple[Any, ...]
) -> None:
    plan = session.row(f"EXPLAIN (FORMAT JSON) {query}", values)[0][0]["Plan"]
    if any(node["Node Type"] == "Seq Scan" for node in _nodes(plan)):
        raise NotMeasured(
            "refused",
            f"{at}: to count {table.name} over {format_duration(table.within)} would scan it all: "
            f"make an index on {table.by}, or shorten 'within'",
        )


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a plan's nodes, from the top."""
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes(below)


# --- queries -------------------------------------------------------------------------------------


def _timed(at: Server, query: PostgresQuery) -> Check:
    return _check(
        f"{query.kind}_query_time",
        f"{query.kind} query {query.name}",
        "database",
        at,
        query.effective_limit,
        partial(_read_time, at, query),
        query.sql,
        rest=query.name,
        measure=f"{query.kind}_query_time",
        unit="s",
        warning=query.warning,
    )


def _read_time(at: Server, query: PostgresQuery) -> Reading:
    """Time a query until its last row is here, less the round trip of an empty one.

    The median run counts; where the slowest breaks the limit, that is a doubt. A query that the
    server cancels has broken its limit if it ran for longer than that.
    """
    limit, taken, trips = query.effective_limit, list[float](), list[float]()
    with connected(at) as session:
        for _ in range(query.runs):
            trips.append(session.run("SELECT 1"))
            began = time.monotonic()
            try:
                taken.append(session.run(query.sql, query.parameters))
            except CancelledError as error:
                taken.append(time.monotonic() - began)
                if limit.holds(taken[-1]):
                    raise
                return Reading(taken[-1], error.reason)
            if sum(taken) > at.settings.statement_timeout:
                break
    trip = min(trips) if min(trips) < min(taken) else 0.0
    median, slowest = statistics.median(taken) - trip, max(taken) - trip
    details = f"median of {len(taken)} runs, without the round trip of {trip * 1e3:.2g} ms"
    late = limit.holds(median) and not limit.holds(slowest)
    return Reading(median, details, f"the slowest run took {slowest * 1e3:.3g} ms" if late else "")


def _indexed(at: Server, query: PostgresQuery, index: str) -> Check:
    return _check(
        "index_scan",
        f"query {query.name} uses {index}",
        "database",
        at,
        _YES,
        partial(_read_plan, at, query, index),
        _explain(query),
        rest=query.name,
    )


def _explain(query: PostgresQuery) -> str:
    return f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query.sql}"


def _read_plan(at: Server, query: PostgresQuery, index: str) -> Reading:
    with connected(at) as session:
        found = session.row(INDEX, [_quoted(index)])
        (answer,) = session.row(_explain(query), query.parameters)
    nodes = list(_nodes(answer[0]["Plan"]))
    scanned = sorted({n["Relation Name"] for n in nodes if n["Node Type"] == "Seq Scan"})
    used = sorted({n["Index Name"] for n in nodes if "Index Name" in n})
    valid, table, names = found or (False, "", [])
    good = bool(set(used) & set(names)) and table not in scanned
    details = [f"{each} is read by a sequential scan" for each in scanned]
    details += [f"the plan uses {', '.join(used)}"] if used else []
    if not found:
        details.append(f"there is no index {index}")
    elif not valid:
        details.append(f"the index {index} is invalid: build it again (REINDEX)")
    elif not good:
        details.append(f"the index {index} of {table} is there and not used")
    return Reading(float(good), "; ".join(details))


# --- connections ---------------------------------------------------------------------------------


def _pool(at: Server) -> Check:
    return _check(
        "pool",
        "connections in use",
        "database",
        at,
        at.settings.pool,
        partial(_read_pool, at),
        POOL,
        unit="ratio",
    )


def _read_pool(at: Server) -> Reading:
    try:
        with connected(at) as session:
            used, free = session.row(POOL)
    except FullError as error:
        # That none is left is measured, even if it leaves us none to ask by.
        return Reading(1, error.reason)
    return Reading(used / free, f"{used} of {free} connections, ours included")
