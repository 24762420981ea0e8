"""Do the stores of all regions hold the same, and how far are replicas behind?

**Lag** is the time until a replica has applied what its primary had written when it was asked, by
their log positions or offsets. So an idle primary does not make it grow, as it does the age of the
last replayed transaction; that is looked at only where a replica does not catch up.

**Rows** of a small table are counted whole, those of a large one (pages in the file × rows a page)
through an index over a recent slice.
**Keys** are counted by the server itself. **Vectors** of Chroma, which has no replication of its
own, are compared with the primary's at one moment.

**The canary** is the one thing that writes, only where `canary.enabled` allows it: one row a region
in a small table of its own, which the database's owner makes, or one key of Redis:

    CREATE TABLE tars_ga_canary (region text PRIMARY KEY, token text NOT NULL);
    GRANT SELECT, INSERT, UPDATE ON tars_ga_canary TO …;
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import partial
from typing import Any

from tars_ga_lib.grammar import format_duration
from tars_ga_lib.system import chroma, postgres, redis
from tars_ga_lib.system.checks import NotMeasured, Reading, Scope, check
from tars_ga_lib.system.replication import catch_up, compare, worst_lag
from tars_ga_lib.system.server import Server, both, canaries, replicas
from tars_ga_lib.targets import TableCount

replication = partial(check, group="replication")

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

_CANARY_KEPT = 3_600


# --- PostgreSQL ----------------------------------------------------------------------------------


def tables(scope: Scope) -> list[Server]:
    """Return each table that is counted, at each replica."""
    return [
        at.asked(table, table.name)
        for at in replicas(postgres.servers(scope))
        for table in at.settings.tables
    ]


@replication(
    name="postgres.streaming",
    title="PostgreSQL {at.region}: receives from the primary",
    limit="== 1",
    query=both(f"{IDENTITY};", f"{IDENTITY};\n{RECEIVER};"),
    at=lambda scope: replicas(postgres.servers(scope)),
)
def test_postgres_streaming(at: Server) -> Reading:
    """See that a replica receives the log of the primary that is named."""
    with postgres.connected(at) as theirs:
        standby, follows = theirs.row(IDENTITY)
        receiver = theirs.row(RECEIVER)
    if not standby:
        return Reading(0, f"{at.region} is no standby: it was promoted, or never was one")
    if not receiver:
        return Reading(0, f"no WAL receiver runs in {at.region}: nothing reaches it")
    with postgres.connected(at.primary) as ours:
        recovering, identity = ours.row(IDENTITY)
    if recovering:
        return Reading(0, f"{at.primary.region}, named as the primary, is itself a standby")
    if identity != follows:
        return Reading(0, f"{at.region} is a copy of another system than {at.primary.region}")
    (status,) = receiver
    streams = status in ("streaming", "not shown to us")
    return Reading(float(streams), f"the status of its WAL receiver: {status}")


@replication(
    name="postgres.replication_lag",
    title="PostgreSQL {at.region}: replication lag",
    limit="replication_lag",
    query=both(f"{WRITTEN};", f"{REPLAYED};\n-- where that stays false\n{BEHIND};"),
    measure="replication_lag",
    at=lambda scope: replicas(postgres.servers(scope)),
)
def test_postgres_replication_lag(at: Server) -> Reading:
    """Time how long a replica takes to replay what the primary has written."""
    positions: list[str] = []
    with postgres.connected(at.primary) as ours, postgres.connected(at) as theirs:
        if not theirs.row(IDENTITY)[0]:
            raise NotMeasured("refused", f"{at} is no standby, so it has no lag to ask for")

        def mark() -> str:
            positions.append(_written(ours))
            return positions[-1]

        lag = worst_lag(lambda: catch_up(mark, partial(_replayed, theirs)))
        if lag.reached:
            idle = len(set(positions)) == 1
            return lag.reading("the primary wrote nothing meanwhile" if idle else "")
        return _stuck(at, lag.low, theirs.row(BEHIND, positions[-1:]))


def _stuck(at: Server, waited: float, behind: tuple[Any, ...]) -> Reading:
    """Return the lag of a replica that did not catch up.

    What it lacks was written at least as long ago as we waited, and after the last transaction
    that it replayed.
    """
    length, age, paused, delay = behind
    high = max(waited, age or 0.0)
    details = [f"{at.region} is {length:,} bytes behind and did not catch up in {waited:.3g} s"]
    if age is not None:
        details.append(f"the last transaction that it replayed is {age:.3g} s old")
    if paused:
        details.append("its replay is paused")
    if delay != "0":
        details.append(f"its recovery_min_apply_delay is {delay}")
    return Reading(high, "; ".join(details), interval=(waited, high))


def _written(session: postgres.Session) -> str:
    return str(session.row(WRITTEN)[0])


def _replayed(session: postgres.Session, position: str) -> bool:
    return bool(session.row(REPLAYED, [position])[0])


@replication(
    name="postgres.canary_lag",
    title="PostgreSQL {at.region}: a canary row arrives",
    limit="replication_lag",
    query=lambda at: both(*(f"{query};" for query in _canary(at))),
    measure="replication_lag",
    optional=True,
    at=lambda scope: canaries(postgres.servers(scope), scope.environ, "user"),
)
def test_postgres_canary_lag(at: Server) -> Reading:
    """Time how long a row takes from the primary to a replica."""
    write, seen = _canary(at)
    with postgres.connected(at.of, write=True) as ours, postgres.connected(at) as theirs:

        def mark() -> tuple[str, str]:
            values = (str(at.region), secrets.token_hex(8))
            ours.run(write, values)
            return values

        lag = worst_lag(lambda: catch_up(mark, lambda values: bool(theirs.row(seen, values)[0])))
    if not lag.reached:
        return lag.reading(f"the canary row was not in {at.region} after {lag.low:.3g} s")
    return lag.reading()


def _canary(at: Server) -> tuple[str, str]:
    table = postgres.quoted(at.settings.canary.table)
    return CANARY.format(table), SEEN.format(table)


@replication(
    name="postgres.row_count",
    title="PostgreSQL {at.region}: rows of {at.of.name} that differ from the primary's",
    limit="difference",
    query=lambda at: (
        f"{_whole(at.of)};" + (f"\n-- if it is large\n{_slice(at.of)};" * bool(at.of.by))
    ),
    measure="count_difference",
    at=tables,
)
def test_postgres_row_count(at: Server) -> Reading:
    """Compare a table's rows on a replica with the primary's."""
    table: TableCount = at.of
    with postgres.connected(at.primary) as ours, postgres.connected(at) as theirs:
        size = _size(ours, table.name)
        query, values, how = _whole(table), (), "counted whole"
        if size > table.exact_below:
            if table.by is None:
                raise NotMeasured(
                    "refused",
                    f"{table.name} has about {size:,.0f} rows, too many to count them all; name a "
                    "time column that has an index as 'by'",
                )
            query, values = _slice(table), ours.row("SELECT now()::text") * 2
            how = f"counted over the last {format_duration(table.within)} by {table.by}"
            for server, session in ((at.primary, ours), (at, theirs)):
                _must_not_scan(server, session, table, query, values)
        return compare(
            at,
            f"{table.name} has no rows to compare, {how}",
            lambda: int(ours.row(query, values)[0]),
            lambda: int(theirs.row(query, values)[0]),
            follows=lambda: catch_up(partial(_written, ours), partial(_replayed, theirs)).reached,
            how=how,
        )


def _whole(table: TableCount) -> str:
    return f"SELECT count(*) FROM {postgres.quoted(table.name)}"


def _slice(table: TableCount) -> str:
    """Return the query that counts the rows of a recent time, up to `settle` before its end."""
    by = postgres.quoted(str(table.by))
    return (
        f"{_whole(table)}\nWHERE {by} >= %s::timestamptz - interval '{table.within} s'\n"
        f"    AND {by} < %s::timestamptz - interval '{table.settle} s'"
    )


def _size(session: postgres.Session, name: str) -> float:
    """Return how many rows a table has, as its file's size says, partitions included."""
    count, rows = session.row(SIZE, [postgres.quoted(name)] * 2)
    if not count:
        raise NotMeasured("refused", f"{name} is no table of its own, so its rows are not counted")
    return float(rows)


def _must_not_scan(
    at: Server, session: postgres.Session, table: TableCount, query: str, values: tuple[Any, ...]
) -> None:
    plan = session.row(f"EXPLAIN (FORMAT JSON) {query}", values)[0][0]["Plan"]
    if any(node["Node Type"] == "Seq Scan" for node in postgres.nodes(plan)):
        raise NotMeasured(
            "refused",
            f"{at}: to count {table.name} over {format_duration(table.within)} would scan it all: "
            f"make an index on {table.by}, or shorten 'within'",
        )


# --- Redis ---------------------------------------------------------------------------------------


def keys(scope: Scope) -> list[Server]:
    """Return each count of keys, at each replica."""
    return [
        at.asked(count, f"db{count.db}")
        for at in replicas(redis.servers(scope))
        for count in at.settings.keys
    ]


@replication(
    name="redis.link",
    title="Redis {at.region}: receives from the primary",
    limit="== 1",
    query=both("INFO replication", "INFO replication", "#"),
    at=lambda scope: replicas(redis.servers(scope)),
)
def test_redis_link(at: Server) -> Reading:
    """See that a replica is linked to the primary that is named."""
    with redis.connected(at) as reader:
        theirs = reader.info("replication")
    if theirs["role"] != "slave":
        return Reading(0, f"{at.region} is no replica: it was promoted, or never was one")
    if theirs["master_link_status"] != "up":
        return Reading(0, _down(at, theirs))
    with redis.connected(at.primary) as reader:
        ours = reader.info("replication")
    if ours["role"] != "master":
        return Reading(0, f"{at.primary.region}, named as the primary, is itself a replica")
    if str(ours["master_replid"]) != str(theirs["master_replid"]):
        return Reading(0, f"{at.region} is a replica of another server than {at.primary.region}")
    return Reading(1, "master_link_status is up")


def _down(at: Server, said: Mapping[str, Any]) -> str:
    seconds = said.get("master_link_down_since_seconds", -1)
    since = f"for {seconds} s" if seconds >= 0 else "and never was up"
    return f"the link of {at.region} to its primary is down {since}"


@replication(
    name="redis.replication_lag",
    title="Redis {at.region}: replication lag",
    limit="replication_lag",
    query=both("INFO replication", "INFO replication", "#"),
    measure="replication_lag",
    at=lambda scope: replicas(redis.servers(scope)),
)
def test_redis_replication_lag(at: Server) -> Reading:
    """Time how long a replica takes to apply what the primary has written.

    The `lag` that a primary tells is in whole seconds, and WAIT speaks of the asking connection's
    own writes.
    """
    with redis.connected(at.primary) as ours, redis.connected(at) as theirs:
        if theirs.info("replication")["role"] != "slave":
            raise NotMeasured("refused", f"{at} is no replica, so it has no lag to ask for")
        lag = worst_lag(lambda: catch_up(ours.offset, theirs.applied))
        said = theirs.info("replication")
        lacks = ours.offset() - int(said["slave_repl_offset"])
    if said["master_link_status"] == "up":
        if lag.reached:
            return lag.reading()
        return lag.reading(
            f"{at.region} is {lacks:,} bytes behind and did not catch up in {lag.low:.3g} s"
        )
    # What a severed replica lacks is at least as old as we waited, and at most as its severance.
    down = max(lag.low, float(said.get("master_link_down_since_seconds", -1)))
    if lag.reached:
        return Reading(lag.seconds, doubt=f"{_down(at, said)}; so far it lacks nothing")
    return Reading(down, f"it lacks {lacks:,} bytes", _down(at, said), interval=(lag.low, down))


@replication(
    name="redis.canary_lag",
    title="Redis {at.region}: a canary key arrives",
    limit="replication_lag",
    query=lambda at: both(
        f"SET {_canary_key(at)} <token> EX {_CANARY_KEPT}", f"GET {_canary_key(at)}", "#"
    ),
    measure="replication_lag",
    optional=True,
    at=lambda scope: canaries(redis.servers(scope), scope.environ, "username"),
)
def test_redis_canary_lag(at: Server) -> Reading:
    """Time how long a key takes from the primary to a replica."""
    key = _canary_key(at)
    with redis.connected(at.of, write=True) as ours, redis.connected(at) as theirs:

        def mark() -> str:
            token = secrets.token_hex(8)
            ours.write(key, token, _CANARY_KEPT)
            return token

        lag = worst_lag(lambda: catch_up(mark, lambda token: theirs.ask("GET", key) == token))
    if not lag.reached:
        return lag.reading(f"the canary key was not in {at.region} after {lag.low:.3g} s")
    return lag.reading()


def _canary_key(at: Server) -> str:
    return f"{at.settings.canary.table}:{at.region}"


@replication(
    name="redis.key_count",
    title="Redis {at.region}: keys of db{at.of.db} that differ from the primary's",
    limit="difference",
    query="INFO keyspace",
    measure="count_difference",
    at=keys,
)
def test_redis_key_count(at: Server) -> Reading:
    """Compare the keys of a replica with the primary's."""
    db = f"db{at.of.db}"

    def count(reader: redis.Reader) -> int:
        return int(reader.info("keyspace").get(db, {}).get("keys", 0))

    with redis.connected(at.primary) as ours, redis.connected(at) as theirs:
        return compare(
            at,
            f"{db} has no keys to compare",
            partial(count, ours),
            partial(count, theirs),
            follows=lambda: catch_up(ours.offset, theirs.applied).reached,
        )


@replication(
    name="redis.required_keys",
    title="Redis {at.region}: required keys that are missing",
    limit="== 0",
    query=lambda at: f"EXISTS {' '.join(at.settings.required)}",
    unit="count",
    at=lambda scope: [at for at in redis.servers(scope) if at.settings.required],
)
def test_redis_required_keys(at: Server) -> Reading:
    """See that a server holds each key that it must."""
    wanted = list(dict.fromkeys(at.settings.required))
    with redis.connected(at) as reader:
        if reader.ask("EXISTS", *wanted) == len(wanted):
            return Reading(0, f"all {len(wanted)} are there")
        lost = [key for key in wanted if not reader.ask("EXISTS", key)]
    return Reading(len(lost), f"not in {at.region}: {', '.join(lost)}")


# --- Chroma --------------------------------------------------------------------------------------


def collections(scope: Scope) -> list[Server]:
    """Return each collection that is counted, at each server but the primary."""
    return [
        at.asked(collection, collection.name)
        for at in replicas(chroma.servers(scope))
        for collection in at.settings.collections
    ]


@replication(
    name="chroma.vector_count",
    title="Chroma {at.region}: vectors of {at.of.name} that differ from the primary's",
    limit="difference",
    query=chroma.asked,
    measure="count_difference",
    at=collections,
)
def test_chroma_vector_count(at: Server) -> Reading:
    """Compare a collection's vectors with those of the primary's server."""
    name = at.of.name
    ours, theirs = chroma.Collection(at.primary, name), chroma.Collection(at, name)
    absent = [one.at.region for one in (ours, theirs) if not one.identity]
    if len(absent) == 2:
        raise NotMeasured("no_rows", f"neither server has a collection {name}")
    reading = compare(
        at, f"the collection {name} has no vectors to compare", ours.count, theirs.count
    )
    lost = "".join(f"; there is no collection {name} in {region}" for region in absent)
    return Reading(reading.value, reading.details + lost)
