"""Are the queries that matter fast, do they use their indexes, and are connections left?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

from tars_ga_lib.system import postgres, redis
from tars_ga_lib.system.checks import Reading, Scope, check
from tars_ga_lib.system.server import FullError, Server
from tars_ga_lib.targets import PostgresQuery

database = partial(check, group="database")

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


def queries(kind: str = "") -> Callable[[Scope], list[Server]]:
    """Return what gives each query of a kind, at each server that it is asked of."""

    def places(scope: Scope) -> list[Server]:
        return [
            at.asked(query, query.name)
            for at in postgres.servers(scope)
            for query in at.settings.queries
            if query.kind.startswith(kind) and query.on in ("all", _role(at))
        ]

    return places


def _role(at: Server) -> str:
    return "replicas" if at.upstream else "primary"


def indexed(scope: Scope) -> list[Server]:
    """Return each query that names its index, at each server that it is asked of."""
    return [at for at in queries()(scope) if at.of.index is not None]


@database(
    name="postgres.mission_query_time",
    title="PostgreSQL {at.region}: mission query {at.of.name}",
    limit="limit",
    query=lambda at: at.of.sql,
    measure="mission_query_time",
    at=queries("mission"),
)
def test_mission_query_time(at: Server) -> Reading:
    """Time a query of missions."""
    return _time(at)


@database(
    name="postgres.analytics_query_time",
    title="PostgreSQL {at.region}: analytics query {at.of.name}",
    limit="limit",
    query=lambda at: at.of.sql,
    measure="analytics_query_time",
    at=queries("analytics"),
)
def test_analytics_query_time(at: Server) -> Reading:
    """Time a query of analytics."""
    return _time(at)


def _time(at: Server) -> Reading:
    """Time a query until its last row is here, less the round trip of an empty one.

    The median run counts; where the slowest breaks the limit, that is a doubt. A query that the
    server cancels has broken its limit if it ran for longer than that.
    """
    query: PostgresQuery = at.of
    limit, taken, trips = query.limit, list[float](), list[float]()
    with postgres.connected(at) as session:
        for _ in range(query.runs):
            trips.append(session.run("SELECT 1"))
            began = time.monotonic()
            try:
                taken.append(session.run(query.sql, query.parameters))
            except postgres.CancelledError as error:
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


@database(
    name="postgres.index_scan",
    title="PostgreSQL {at.region}: query {at.of.name} uses {at.of.index}",
    limit="== 1",
    query=lambda at: _explain(at.of),
    at=indexed,
)
def test_index_scan(at: Server) -> Reading:
    """See that a query's plan uses its index, and scans no table of it."""
    index = at.of.index
    with postgres.connected(at) as session:
        known = session.row(INDEX, [postgres.quoted(index)])
        (answer,) = session.row(_explain(at.of), at.of.parameters)
    nodes = list(postgres.nodes(answer[0]["Plan"]))
    scanned = sorted({n["Relation Name"] for n in nodes if n["Node Type"] == "Seq Scan"})
    used = sorted({n["Index Name"] for n in nodes if "Index Name" in n})
    valid, table, names = known or (False, "", [])
    good = bool(set(used) & set(names)) and table not in scanned
    details = [f"{name} is read by a sequential scan" for name in scanned]
    details += [f"the plan uses {', '.join(used)}"] if used else []
    if not known:
        details.append(f"there is no index {index}")
    elif not valid:
        details.append(f"the index {index} is invalid: build it again (REINDEX)")
    elif not good:
        details.append(f"the index {index} of {table} is there and not used")
    return Reading(float(good), "; ".join(details))


def _explain(query: PostgresQuery) -> str:
    return f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query.sql}"


@database(
    name="postgres.pool",
    title="PostgreSQL {at.region}: connections in use",
    limit="pool",
    query=POOL,
    unit="ratio",
    at=postgres.servers,
)
def test_postgres_pool(at: Server) -> Reading:
    """Compare the connections in use with those that a server takes."""
    try:
        with postgres.connected(at) as session:
            used, most = session.row(POOL)
    except FullError as error:
        # That none is left is measured, even if it leaves us none to ask by.
        return Reading(1, error.reason)
    return Reading(used / most, f"{used} of {most} connections, ours included")


@database(
    name="redis.clients",
    title="Redis {at.region}: clients of those it takes",
    limit="clients",
    query="INFO clients",
    unit="ratio",
    at=redis.servers,
)
def test_redis_clients(at: Server) -> Reading:
    """Compare the clients in use with those that a server takes."""
    try:
        with redis.connected(at) as reader:
            said = reader.info("clients")
    except FullError as error:
        return Reading(1, error.reason)
    used, most = int(said["connected_clients"]), int(said["maxclients"])
    return Reading(used / most, f"{used} of {most:,} clients, ours included")
