"""The checks of PostgreSQL against a real primary and its streaming replicas."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from tars_ga_lib import grammar
from tars_ga_lib.system import postgres, replication
from tars_ga_lib.system.checks import NotMeasured, Outcome
from tars_ga_lib.system.server import Server
from tars_ga_lib.targets import Postgres, ValidationTargets
from tests import stores
from tests.checking import HIDDEN, Measure, one, outcomes, verdicts
from tests.servers import free_port

EAST, WEST, EU = stores.REGIONS

# Limits that a busy machine keeps too; a test of a limit gives its own.
CALM: dict[str, Any] = {
    "replication_lag": "< 20",
    "queries": [
        {**each.model_dump(exclude_none=True), "limit": "< 20"}
        for each in Postgres.model_fields["queries"].default
    ],
}


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[stores.Postgres]:
    with stores.postgres_cluster(5_000, connections=20) as cluster:
        yield cluster
        if request.session.testsfailed:
            print(cluster.logs())


@pytest.fixture
def measure(cluster: stores.Postgres) -> Iterator[Measure]:
    """Return a function that runs the checks whose id holds a text, with keys of the section."""

    def run(only: str = "", **changes: Any) -> dict[str, Outcome]:
        section = cluster.section() | CALM | changes
        return outcomes("postgres", section, cluster.secrets, only)

    yield run
    cluster.settle()


@contextmanager
def primary_ran(cluster: stores.Postgres, do: str, undo: str) -> Iterator[None]:
    """Run statements on the primary, and others when the block ends; replicas follow both."""
    try:
        cluster.sql(EAST, do)
        cluster.settle()
        yield
    finally:
        cluster.sql(EAST, undo)


def query(sql: str, **changes: Any) -> list[dict[str, Any]]:
    """Return the queries of a section: this one."""
    return [{"name": "asked", "kind": "mission", "sql": sql, "on": "primary"} | changes]


# --- all is well --------------------------------------------------------------------------------


def test_a_healthy_cluster_passes_every_check(measure: Measure) -> None:
    found = measure()
    assert {f"{i}: {o.reason}" for i, o in found.items() if o.verdict != "pass"} == set()
    assert {i for i in found if ".us-west-2" in i} == {
        "streaming.us-west-2",
        "replication_lag.us-west-2",
        "row_count.us-west-2.missions",
        "row_count.us-west-2.telemetry",
        "canary_lag.us-west-2",
        "mission_query_time.us-west-2.missions_by_status",
        "index_scan.us-west-2.missions_by_status",
        "mission_query_time.us-west-2.newest_missions",
        "index_scan.us-west-2.newest_missions",
        "analytics_query_time.us-west-2.telemetry_of_the_last_hour",
        "index_scan.us-west-2.telemetry_of_the_last_hour",
        "pool.us-west-2",
    }
    assert len(found) == 12 * 3 - 5  # the primary is compared with nobody
    assert "us-east-1 1,000, us-west-2 1,000" in found["row_count.us-west-2.missions"].reason
    assert "idx_missions_status" in found["index_scan.eu-central-1.missions_by_status"].reason
    measures = {o.check.measure for o in found.values()}
    assert measures >= {"count_difference", "replication_lag", "mission_query_time"}


# --- replicas that are not what they should be --------------------------------------------------


def test_a_stopped_replica_is_named_and_the_others_are_measured(
    cluster: stores.Postgres, measure: Measure
) -> None:
    cluster.stop(EU)
    try:
        found = measure()
    finally:
        cluster.start(EU)
    for name, outcome in found.items():
        if EU in name:
            assert (outcome.verdict, outcome.cause) == ("no_data", "unreachable"), name
            assert outcome.reason.startswith("eu-central-1 (postgres 127.0.0.1:")
            assert outcome.reason.endswith("cannot be reached: Connection refused")
        else:
            assert outcome.verdict == "pass", name


def test_a_stopped_primary_is_named_in_what_is_asked_of_both(cluster: stores.Postgres) -> None:
    # The primary is not stopped for it: a section may name a port where nobody listens.
    section = cluster.section(canary=False)
    section["primary"] |= {"port": free_port()}
    found = outcomes("postgres", section, cluster.secrets, f"_lag.{WEST}")
    assert one(found).cause == "unreachable"
    assert one(found).reason.startswith("us-east-1 (")


def test_a_lagging_replica_fails_with_what_it_lacks(
    cluster: stores.Postgres, measure: Measure, impatient: float
) -> None:
    cluster.delay(WEST, "30s")
    try:
        late = "SELECT n, 'late', 'late', now() FROM generate_series(-5, -1) AS n"
        cluster.sql(EAST, f"INSERT INTO missions {late}")
        tables = [{"name": "missions"}]
        found = measure(f".{WEST}", queries=[], tables=tables, replication_lag="< 0.1")
        other = measure(f".{EU}", queries=[], tables=tables)
    finally:
        cluster.delay(WEST, None)
        cluster.sql(EAST, "DELETE FROM missions WHERE status = 'late'")
    lag = found[f"replication_lag.{WEST}"]
    assert lag.verdict == "fail"
    assert lag.value is not None
    assert lag.value >= impatient - 0.1
    assert "bytes behind and did not catch up" in lag.reason
    assert "recovery_min_apply_delay is 30s" in lag.reason
    rows = found[f"row_count.{WEST}.missions"]
    assert (rows.verdict, rows.value) == ("fail", 5)
    assert "us-east-1 1,005, us-west-2 1,000" in rows.reason
    assert "did not catch up with the primary before it was counted" in rows.reason
    canary = found[f"canary_lag.{WEST}"]
    assert canary.verdict == "fail"
    assert "the canary row was not in us-west-2" in canary.reason
    assert found[f"streaming.{WEST}"].verdict == "pass"  # it receives, and does not replay
    assert verdicts(other) == {"pass"}


def test_a_paused_replay_is_told(
    cluster: stores.Postgres, measure: Measure, impatient: float
) -> None:
    cluster.sql(EU, "SELECT pg_wal_replay_pause()")
    try:
        cluster.sql(EAST, "INSERT INTO tars_ga_canary VALUES ('paused', 'x')")
        lag = one(measure(f"replication_lag.{EU}", replication_lag="< 0.1"))
    finally:
        cluster.sql(EU, "SELECT pg_wal_replay_resume()")
        cluster.sql(EAST, "DELETE FROM tars_ga_canary WHERE region = 'paused'")
    assert lag.verdict == "fail"
    assert "its replay is paused" in lag.reason


def test_a_replica_that_receives_nothing_fails_even_while_nothing_is_written(
    cluster: stores.Postgres, measure: Measure
) -> None:
    cluster.setting(WEST, "primary_conninfo", "")
    try:
        deadline = time.monotonic() + 30
        while (streaming := one(measure(f"streaming.{WEST}"))).verdict == "pass":
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        cluster.setting(WEST, "primary_conninfo", None)
    assert (streaming.verdict, streaming.value) == ("fail", 0)
    assert streaming.reason == "no WAL receiver runs in us-west-2: nothing reaches it"


def test_servers_in_each_others_place_are_told(cluster: stores.Postgres, impatient: float) -> None:
    section = cluster.section(canary=False)
    first, second = section["primary"], section["replicas"][0]
    first["port"], second["port"] = second["port"], first["port"]
    section["replicas"] = [second]
    found = outcomes("postgres", section, cluster.secrets, WEST)
    assert found[f"streaming.{WEST}"].verdict == "fail"
    assert "us-west-2 is no standby" in found[f"streaming.{WEST}"].reason
    assert found[f"replication_lag.{WEST}"].cause == "refused"
    assert found[f"row_count.{WEST}.missions"].cause == "refused"
    second["port"] = cluster.servers[EU].port
    found = outcomes("postgres", section, cluster.secrets, f"streaming.{WEST}")
    assert one(found).reason == "us-east-1, named as the primary, is itself a standby"


def test_a_promoted_replica_has_no_lag_and_is_told(
    cluster: stores.Postgres, impatient: float
) -> None:
    section = cluster.section(canary=False)
    section["replicas"][0]["port"] = section["primary"]["port"]
    found = outcomes("postgres", section, cluster.secrets, WEST)
    assert found[f"streaming.{WEST}"].verdict == "fail"
    lag = found[f"replication_lag.{WEST}"]
    assert (lag.verdict, lag.cause) == ("no_data", "refused")
    assert lag.reason.endswith("is no standby, so it has no lag to ask for")


def test_a_standby_of_another_primary_is_told(cluster: stores.Postgres) -> None:
    with stores.postgres_cluster(10, regions=["elsewhere"]) as other:
        section = cluster.section(canary=False)
        section["primary"] |= {"port": other.servers["elsewhere"].port, "user": other.reader.user}
        section["primary"]["password_env"] = "TARS_GA_OTHER"
        secrets = cluster.secrets | {"TARS_GA_OTHER": other.reader.password}
        found = outcomes("postgres", section, secrets, f"streaming.{WEST}")
    assert one(found).verdict == "fail"
    assert one(found).reason == "us-west-2 is a copy of another system than us-east-1"


# --- how lag and counts are taken ---------------------------------------------------------------


def test_lag_is_the_time_until_the_replica_is_there() -> None:
    written: list[float] = []

    def mark() -> int:
        written.append(time.monotonic())
        return 7

    def reached(position: int) -> bool:
        assert position == 7
        return time.monotonic() - written[0] >= 0.3

    lag = replication.catch_up(mark, reached)
    assert lag.reached
    assert lag.low <= 0.3 <= lag.high
    assert lag.low <= lag.seconds <= lag.high
    assert lag.low >= 0.2  # not from the first question only


def test_the_round_trips_to_a_distant_server_are_not_its_lag() -> None:
    def distant(answer: bool | int) -> Any:
        time.sleep(0.1)
        now = answer
        time.sleep(0.1)
        return now

    lag = replication.catch_up(lambda: distant(1), lambda _: distant(True))
    assert lag.reached
    assert lag.low == 0
    assert lag.high >= 0.4
    assert lag.seconds <= lag.high - 0.2


def test_a_replica_that_never_gets_there_is_given_up(impatient: float) -> None:
    lag = replication.catch_up(lambda: 1, lambda _: False)
    assert not lag.reached
    assert lag.low == lag.seconds == lag.high >= impatient - 0.1


def test_the_worst_of_the_sharpest_lags_counts() -> None:
    def worst(*ends: tuple[float, float]) -> float:
        lags = iter([replication.Lag((a + b) / 2, a, b, reached=True) for a, b in ends])
        return replication.worst_lag(lambda: next(lags)).seconds

    blurred = (0.0, 0.9)  # a hiccup of ours: it may have been any lag
    assert worst((0.0, 0.002), blurred, (0.1, 0.102), blurred, (0.0, 0.002)) == 0.101
    assert worst((0.4, 0.41), (0.3, 0.31), (0.4, 0.41), (0.4, 0.41), (0.3, 0.31)) == 0.405
    lags = iter([replication.Lag(9, 9, 9, True), replication.Lag(2, 2, 2, False)])
    assert not replication.worst_lag(lambda: next(lags)).reached  # and it is not asked again


@pytest.mark.parametrize(
    ("primary", "replica", "difference"),
    [
        ([10, 10], [10], 0),
        ([10, 14], [12], 0),  # the primary has itself changed meanwhile
        ([14, 10], [12], 0),
        ([10, 10] * 3, [7] * 3, 3),
        ([10, 10] * 3, [12] * 3, 2),
        ([10, 12] * 3, [15] * 3, 3),
        ([10, 10, 11, 11], [9, 11], 0),  # it was on its way
        ([10, 10] * 3, [7, 8, 7], 2),
        ([5, 5] * 3, [0] * 3, 5),
    ],
)
def test_counts_are_compared_while_they_change(
    primary: list[int], replica: list[int], difference: int
) -> None:
    ours, theirs = iter(primary), iter(replica)
    at = Server(region=WEST, address="here", to={})
    reading = replication.compare(at, "empty", lambda: next(ours), lambda: next(theirs))
    assert reading.value == difference


# --- rows ---------------------------------------------------------------------------------------


def test_rows_that_are_written_meanwhile_are_no_difference(
    cluster: stores.Postgres, measure: Measure
) -> None:
    stop, written = threading.Event(), 0

    def write() -> None:
        nonlocal written
        with cluster.connect(EAST) as connection:
            while not stop.is_set():
                written += 1
                values = (-written, "busy", "busy")
                connection.execute("INSERT INTO missions VALUES (%s, %s, %s, now())", values)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = measure("row_count")
        lags = measure("replication_lag")
    finally:
        stop.set()
        writer.join()
        cluster.sql(EAST, "DELETE FROM missions WHERE status = 'busy'")
    assert written > 1
    assert verdicts(found) == {"pass"}
    assert all("wrote nothing" not in outcome.reason for outcome in lags.values())


def test_a_large_table_is_counted_through_its_index(measure: Measure) -> None:
    tables = [{"name": "telemetry", "by": "timestamp", "exact_below": 100}]
    rows = one(measure(f"row_count.{WEST}", tables=tables))
    assert rows.verdict == "pass"
    assert rows.reason.endswith("counted over the last 1h by timestamp")
    counted = int(rows.reason.split(", ")[0].rpartition(" ")[2].replace(",", ""))
    assert 1_000 < counted < 1_800  # a row each 2 s, and an hour that ends 10 s ago
    assert "\"timestamp\" >= %s::timestamptz - interval '3600 s'" in rows.check.query


def test_a_large_table_is_never_scanned(cluster: stores.Postgres, measure: Measure) -> None:
    tables = [{"name": "telemetry", "by": "timestamp", "exact_below": 100}]
    drop = "DROP INDEX idx_telemetry_timestamp"
    make = "CREATE INDEX idx_telemetry_timestamp ON telemetry (timestamp)"
    with primary_ran(cluster, drop, make):
        rows = one(measure(f"row_count.{WEST}", tables=tables))
    assert (rows.verdict, rows.cause) == ("no_data", "refused")
    assert rows.reason.startswith("us-east-1 (")
    assert "would scan it all: make an index on timestamp" in rows.reason


def test_a_large_table_without_a_time_is_not_counted(measure: Measure) -> None:
    tables = [{"name": "telemetry", "exact_below": 100}]
    rows = one(measure(f"row_count.{WEST}", tables=tables))
    assert (rows.verdict, rows.cause) == ("no_data", "refused")
    assert "telemetry has about 5,000 rows, too many to count them all; name a time" in rows.reason


def test_a_partitioned_table_is_as_large_as_its_partitions(
    cluster: stores.Postgres, measure: Measure
) -> None:
    make = """
        CREATE TABLE parted (at timestamptz, n int) PARTITION BY RANGE (n);
        CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000);
        CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (1000) TO (2000);
        INSERT INTO parted SELECT now(), n FROM generate_series(0, 1999) AS n;
        CREATE INDEX idx_parted_n ON parted (n);
        GRANT SELECT ON parted TO tars_checks;
        ANALYZE parted"""
    with primary_ran(cluster, make, "DROP TABLE parted"):
        whole = one(measure(f"row_count.{WEST}", tables=[{"name": "parted"}]))
        large = one(measure(f"row_count.{WEST}", tables=[{"name": "parted", "exact_below": 1_500}]))
        asked = query("SELECT at FROM parted WHERE n = 5", index="idx_parted_n")
        plan = one(measure("index_scan", queries=asked))
    assert whole.reason == "us-east-1 2,000, us-west-2 2,000, counted whole"
    assert "about 2,000" in large.reason
    assert plan.verdict == "pass", plan.reason


def test_no_rows_anywhere_is_no_data(cluster: stores.Postgres, measure: Measure) -> None:
    make = "CREATE TABLE bare (); GRANT SELECT ON bare TO tars_checks"
    with primary_ran(cluster, make, "DROP TABLE bare"):
        rows = one(measure(f"row_count.{WEST}", tables=[{"name": "bare"}]))
    assert (rows.verdict, rows.cause) == ("no_data", "no_rows")
    assert rows.reason == "bare has no rows to compare, counted whole"


@pytest.mark.parametrize(
    ("name", "cause", "reason"),
    [
        ("nowhere", "refused", 'relation "nowhere" does not exist'),
        ("pg_catalog.pg_stats", "refused", "is no table of its own"),
        ("pg_catalog.pg_authid", "unauthorised", "permission denied"),
        ('missions"; DROP TABLE telemetry; --', "refused", "does not exist"),
    ],
)
def test_what_cannot_be_counted_is_told(
    measure: Measure, name: str, cause: str, reason: str
) -> None:
    rows = one(measure(f"row_count.{WEST}", tables=[{"name": name}]))
    assert (rows.verdict, rows.cause) == ("no_data", cause)
    assert reason in rows.reason


# --- queries ------------------------------------------------------------------------------------


def test_a_missing_index_fails_and_is_named_with_its_table(
    cluster: stores.Postgres, measure: Measure
) -> None:
    drop = "DROP INDEX idx_telemetry_timestamp"
    make = "CREATE INDEX idx_telemetry_timestamp ON telemetry (timestamp)"
    with primary_ran(cluster, drop, make):
        found = measure("index_scan")
    for region in stores.REGIONS:
        plan = found[f"index_scan.{region}.telemetry_of_the_last_hour"]
        assert (plan.verdict, plan.value) == ("fail", 0)
        assert plan.reason == (
            "telemetry is read by a sequential scan; there is no index idx_telemetry_timestamp"
        )
        assert found[f"index_scan.{region}.missions_by_status"].verdict == "pass"


def test_an_index_that_is_invalid_or_not_used_is_told(
    cluster: stores.Postgres, measure: Measure
) -> None:
    flag = "UPDATE pg_index SET indisvalid = {} WHERE indexrelid = 'idx_missions_status'::regclass"
    with primary_ran(cluster, flag.format("false"), flag.format("true")):
        plan = measure("index_scan")[f"index_scan.{WEST}.missions_by_status"]
    assert plan.verdict == "fail"
    assert "missions is read by a sequential scan" in plan.reason
    assert "the index idx_missions_status is invalid" in plan.reason
    asked = query("SELECT * FROM missions WHERE name = 'mission 3'", index="idx_missions_status")
    plan = one(measure("index_scan", queries=asked))
    assert plan.verdict == "fail"
    assert "the index idx_missions_status of missions is there and not used" in plan.reason
    asked = query("SELECT * FROM missions WHERE id = 3", index="idx_missions_status")
    plan = one(measure("index_scan", queries=asked))
    assert plan.verdict == "fail"
    assert "the plan uses missions_pkey" in plan.reason
    both = (
        "SELECT count(*) FROM missions WHERE status = 'running' UNION ALL "
        "SELECT count(*) FROM missions WHERE name = 'mission 3'"
    )
    plan = one(measure("index_scan", queries=query(both, index="idx_missions_status")))
    assert plan.verdict == "fail"  # the index is used, and its table is scanned all the same
    assert plan.reason.startswith("missions is read by a sequential scan")


def test_parameters_are_sent_apart_from_the_query(measure: Measure) -> None:
    asked = query(
        "SELECT * FROM missions WHERE status = %(status)s",
        parameters={"status": "failed'; DROP TABLE missions; --"},
        index="idx_missions_status",
    )
    assert verdicts(measure("asked", queries=asked)) == {"pass"}


def test_a_slow_query_fails_with_its_median_run(measure: Measure) -> None:
    asked = query("SELECT pg_sleep(0.2)", kind="analytics", runs=2)
    slow = one(measure("query_time", queries=asked))
    assert slow.verdict == "fail"
    assert slow.value is not None
    assert slow.value > 0.19
    assert slow.reason.startswith("median of 2 runs, without the round trip of ")
    assert str(slow.check.limit) == "< 0.2"


def test_one_slow_run_of_several_is_a_doubt(cluster: stores.Postgres, measure: Measure) -> None:
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
    with cluster.connect(EAST) as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE telemetry")

        def release() -> None:  # the first run has waited for 0.3 s at least
            while not cluster.sql(EAST, waiting):
                time.sleep(0.01)
            time.sleep(0.3)
            blocker.execute("ROLLBACK")

        thread = threading.Thread(target=release)
        thread.start()
        asked = query("SELECT max(id) FROM telemetry", kind="analytics", runs=4)
        slow = one(measure("query_time", queries=asked))
        thread.join()
    assert slow.verdict == "warn"
    assert slow.reason.startswith("median of 4 runs")
    found = re.search(r"the slowest run took (\S+) ms", slow.reason)
    assert found is not None
    assert float(found[1]) >= 250


def test_a_query_that_is_cancelled_has_broken_its_limit(measure: Measure) -> None:
    slow = one(measure("query_time", queries=query("SELECT pg_sleep(30)"), statement_timeout="1s"))
    assert slow.verdict == "fail"
    assert slow.value is not None
    assert slow.value >= 1
    assert slow.reason.endswith("still running after 1 s, and cancelled")
    asked = query("SELECT pg_sleep(30)", limit="< 60")
    slow = one(measure("query_time", queries=asked, statement_timeout="1s"))
    assert (slow.verdict, slow.cause) == ("no_data", "timed_out")


def test_a_query_that_waits_for_a_lock_fails_and_says_so(
    cluster: stores.Postgres, measure: Measure
) -> None:
    with cluster.connect(EAST) as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE telemetry")
        asked = query("SELECT max(id) FROM telemetry")
        slow = one(measure("query_time", queries=asked, statement_timeout="1s"))
        blocker.execute("ROLLBACK")
    assert slow.verdict == "fail"
    assert slow.value is not None
    assert slow.value >= 0.9
    assert slow.reason.endswith("no lock within 0.9 s, and cancelled")


@pytest.mark.parametrize(
    ("sql", "cause", "reason"),
    [
        ("SELECT * FROM nowhere", "refused", 'relation "nowhere" does not exist'),
        ("SELECT * FROM pg_authid", "unauthorised", "permission denied for table pg_authid"),
        ("SELECT 1 +", "refused", "syntax error"),
        ("SELECT 1 / 0", "refused", "division by zero"),
    ],
)
def test_a_query_that_the_server_refuses_is_told(
    measure: Measure, sql: str, cause: str, reason: str
) -> None:
    refused = one(measure("query_time", queries=query(sql)))
    assert (refused.verdict, refused.cause) == ("no_data", cause)
    assert reason in refused.reason


# --- connections --------------------------------------------------------------------------------


def test_a_pool_that_is_nearly_full_fails_with_its_share(
    cluster: stores.Postgres, measure: Measure
) -> None:
    with ExitStack() as stack:
        for _ in range(14):
            stack.enter_context(cluster.connect(WEST, cluster.reader))
        pool = measure("pool")
    assert pool[f"pool.{WEST}"].verdict == "fail"
    assert pool[f"pool.{WEST}"].value == 15 / 17
    assert pool[f"pool.{WEST}"].reason == "15 of 17 connections, ours included"
    assert pool[f"pool.{EU}"].verdict == "pass"


def test_a_full_pool_is_a_cause_of_its_own(cluster: stores.Postgres, measure: Measure) -> None:
    with ExitStack() as stack:
        try:
            while True:
                stack.enter_context(cluster.connect(WEST, cluster.reader))
        except psycopg.OperationalError:
            pass
        found = measure(WEST)
    pool = found.pop(f"pool.{WEST}")
    assert (pool.verdict, pool.value) == ("fail", 1)
    assert "has no connection left: remaining connection slots are reserved" in pool.reason
    for name, outcome in found.items():
        assert (outcome.verdict, outcome.cause) == ("no_data", "refused"), name
        assert "us-west-2" in outcome.reason
        assert "has no connection left" in outcome.reason


@pytest.mark.parametrize(
    ("change", "cause", "reason"),
    [
        ({"password_env": "TARS_GA_WRONG"}, "unauthorised", "password authentication failed"),
        ({"user": "nobody"}, "unauthorised", "password authentication failed"),
        ({"dbname": "nowhere"}, "refused", 'database "nowhere" does not exist'),
        ({"sslmode": "require"}, "refused", "does not support SSL"),
        ({"host": "nowhere.example"}, "unreachable", "cannot be reached"),
        ({"password_env": "TARS_GA_UNSET"}, "not_configured", "TARS_GA_UNSET is not set"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_told_with_the_cause(
    cluster: stores.Postgres, change: dict[str, Any], cause: str, reason: str
) -> None:
    section = cluster.section()
    section["replicas"] = [section["replicas"][0] | change]
    environ = cluster.secrets | {"TARS_GA_WRONG": HIDDEN}
    found = outcomes("postgres", section, environ, f".{WEST}")
    assert {(o.verdict, o.cause) for o in found.values()} == {("no_data", cause)}
    assert all(reason in o.reason for o in found.values()), found


def test_a_server_that_never_answers_is_timed_out(cluster: stores.Postgres) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        section = cluster.section() | {"connect_timeout": "2s"}
        section["primary"]["port"] = silent.getsockname()[1]
        found = outcomes("postgres", section, cluster.secrets, f"pool.{EAST}")
    assert (one(found).verdict, one(found).cause) == ("no_data", "timed_out")
    assert "took no connection within 2 s" in one(found).reason


def test_a_connection_that_is_cut_is_unreachable(cluster: stores.Postgres) -> None:
    target = _server(cluster)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s"
    with postgres.connected(target) as session:
        session.row("SELECT 1")
        with cluster.connect(EAST) as owner:
            owner.execute(cut, ("tars-ga%",))
        with pytest.raises(NotMeasured, match="the connection was lost") as caught:
            session.row("SELECT 1")
    assert caught.value.cause == "unreachable"


def test_a_connection_string_comes_from_the_environment(cluster: stores.Postgres) -> None:
    section = cluster.section() | CALM
    port, who = cluster.servers[EAST].port, cluster.reader
    section["primary"] = {"region": EAST, "dsn_env": "TARS_GA_DSN"}
    good = f"postgresql://{who.user}:{who.password}@127.0.0.1:{port}/tars"
    for text, cause in (
        (good, None),
        (f"{HIDDEN} host", "not_configured"),
        ("", "not_configured"),
    ):
        environ = cluster.secrets | {"TARS_GA_DSN": text}
        found = outcomes("postgres", section, environ, f"pool.{EAST}")
        assert one(found).cause == cause
        assert HIDDEN not in json.dumps(one(found).facts())
        assert ("TARS_GA_DSN" in one(found).reason) == bool(cause)
    environ = cluster.secrets | {"TARS_GA_DSN": good}
    found = outcomes("postgres", section, environ)
    assert verdicts(found) == {"pass"}
    assert found[f"pool.{EAST}"].check.target == f"postgres 127.0.0.1:{port}/tars"


# --- nothing is changed, and nothing told -------------------------------------------------------


def _server(cluster: stores.Postgres) -> Server:
    """Return the primary as its superuser reaches it, who could do anything."""
    section = cluster.section()
    section["primary"] |= {"user": cluster.owner.user, "password_env": "TARS_GA_OWNER"}
    targets = grammar.check(ValidationTargets, {"postgres": section}, "validation.yaml")
    assert targets.postgres is not None
    environ = {"TARS_GA_OWNER": cluster.owner.password}
    return postgres.server(targets.postgres.primary, targets.postgres, environ)


@pytest.mark.parametrize(
    ("sql", "refusal"),
    [
        ("INSERT INTO missions VALUES (-1, 'x', 'x', now())", "in a read-only transaction"),
        ("DROP TABLE missions", "in a read-only transaction"),
        ("EXPLAIN ANALYZE DELETE FROM missions", "in a read-only transaction"),
        ("WITH gone AS (DELETE FROM missions RETURNING 1) SELECT * FROM gone", "read-only"),
        ("SET TRANSACTION READ WRITE", "read-write mode"),
        ("SELECT set_config('transaction_read_only', 'off', true)", "read-write mode"),
        ("SELECT 1; DROP TABLE missions", "cannot insert multiple commands"),
        ("COMMIT; DROP TABLE missions", "cannot insert multiple commands"),
    ],
)
def test_the_session_refuses_to_write_whoever_asks(
    cluster: stores.Postgres, sql: str, refusal: str
) -> None:
    with postgres.connected(_server(cluster)) as session:
        session.row("SELECT 1")
        with pytest.raises(NotMeasured, match=refusal) as caught:
            session.run(sql)
    assert caught.value.cause == "refused"
    assert cluster.sql(EAST, "SELECT count(*) FROM missions") == [(1_000,)]


@pytest.mark.parametrize("before", ["SELECT 1", "SET default_transaction_read_only = off"])
def test_the_session_stays_read_only_when_its_transaction_ends(
    cluster: stores.Postgres, before: str
) -> None:
    with postgres.connected(_server(cluster)) as session:
        session.run(before)
        session.run("COMMIT")
        with pytest.raises(NotMeasured, match="in a read-only transaction"):
            session.run("CREATE TABLE never (n int)")


def test_a_connection_strings_own_options_do_not_lift_ours(cluster: stores.Postgres) -> None:
    section, port = cluster.section(), cluster.servers[EAST].port
    section["primary"] = {"region": EAST, "dsn_env": "TARS_GA_DSN"}
    targets = grammar.check(ValidationTargets, {"postgres": section}, "validation.yaml")
    assert targets.postgres is not None
    dsn = (
        f"host=127.0.0.1 port={port} dbname=tars user=tars password={cluster.owner.password} "
        "options='-c default_transaction_read_only=off -c search_path=elsewhere'"
    )
    server = postgres.server(targets.postgres.primary, targets.postgres, {"TARS_GA_DSN": dsn})
    with postgres.connected(server) as session:
        assert session.row("SELECT current_setting('search_path')") == ("elsewhere",)
        assert session.row("SELECT current_setting('default_transaction_read_only')") == ("on",)


def test_the_session_has_limits_and_a_name(cluster: stores.Postgres) -> None:
    names = {
        "statement_timeout": "5s",
        "lock_timeout": "4500ms",
        "idle_in_transaction_session_timeout": "1min",
        "default_transaction_read_only": "on",
        "transaction_read_only": "on",
        "application_name": "tars-ga validate",
    }
    with postgres.connected(_server(cluster)) as session:
        for name, value in names.items():
            assert session.row(f"SELECT current_setting('{name}')") == (value,)


def test_a_canary_that_is_not_allowed_is_not_written(cluster: stores.Postgres) -> None:
    cluster.sql(EAST, "TRUNCATE tars_ga_canary")
    cluster.settle()
    section = cluster.section(canary=False)
    found = outcomes("postgres", section, cluster.secrets)
    assert not any("canary" in name for name in found)
    assert cluster.sql(EAST, "SELECT count(*) FROM tars_ga_canary") == [(0,)]


def test_a_canary_leaves_one_row_a_region(cluster: stores.Postgres, measure: Measure) -> None:
    measure("canary")
    found = measure("canary")
    assert verdicts(found) == {"pass"}
    written = cluster.sql(EAST, "SELECT region FROM tars_ga_canary ORDER BY region")
    assert written == [(EU,), (WEST,)]


def test_a_canary_that_its_role_may_not_write_is_unauthorised(
    cluster: stores.Postgres, measure: Measure
) -> None:
    outcome = one(measure(f"canary_lag.{WEST}", canary={"enabled": True}))
    assert (outcome.verdict, outcome.cause) == ("no_data", "unauthorised")
    assert outcome.reason.startswith("us-east-1 (")
    assert "permission denied for table tars_ga_canary" in outcome.reason


def test_no_password_is_ever_told(cluster: stores.Postgres) -> None:
    told = []
    for wrong in (False, True):
        section = cluster.section()
        if wrong:
            section["replicas"][0] |= {"password_env": "TARS_GA_WRONG"}
            section["replicas"][1] |= {"user": cluster.canary.user}
        environ = cluster.secrets | {"TARS_GA_WRONG": HIDDEN}
        # The library's own cleaning does not know these variables: nothing else may tell either.
        found = outcomes("postgres", section, environ)
        told += [f"{json.dumps(o.facts())} {o.check!r} {o!r}" for o in found.values()]
    everything = " ".join(told)
    for secret in (HIDDEN, *cluster.secrets.values(), cluster.owner.password):
        assert secret not in everything
