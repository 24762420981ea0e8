"""The checks of Redis against a real primary and its replicas."""

from __future__ import annotations

import json
import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import redis as driver

from tars_ga_lib.system import redis
from tars_ga_lib.system.checks import Outcome
from tests import stores
from tests.checking import HIDDEN, Measure, one, outcomes, verdicts
from tests.servers import free_port

EAST, WEST, EU = stores.REGIONS


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> Iterator[stores.Redis]:
    with stores.redis_servers(1_000, named=["tars:state", "tars:leader"]) as servers:
        yield servers
        if request.session.testsfailed:
            print(servers.logs())


@pytest.fixture
def measure(servers: stores.Redis) -> Measure:
    """Return a function that runs the checks whose id holds a text, with keys of the section."""

    def run(only: str = "", **changes: Any) -> dict[str, Outcome]:
        # A limit that a busy machine keeps too; a test of the limit gives its own.
        section = servers.section() | {"replication_lag": "< 20"} | changes
        return outcomes("redis", section, servers.secrets, only)

    return run


@pytest.fixture
def mended(servers: stores.Redis) -> Iterator[None]:
    """Let the replicas be what they were, whatever a test did to them."""
    yield
    for region in servers.replicas:
        with servers.connect(region) as client:
            client.slaveof()
            client.replicaof("127.0.0.1", servers.servers[EAST].port)
    servers.settle()


@contextmanager
def holding(port: int) -> Iterator[tuple[int, threading.Event]]:
    """Forward connections to a port, and let nothing through while the event is set."""
    hold, ended, pumps = threading.Event(), threading.Event(), list[threading.Thread]()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with (
            source,
            sink,
            suppress(OSError, ValueError),
        ):  # the other direction may have closed both
            while not ended.is_set():
                if not select.select([source], [], [], 0.05)[0]:
                    continue
                data = source.recv(65536)
                while hold.is_set() and not ended.is_set():
                    ended.wait(0.01)
                if not data:
                    break
                sink.sendall(data)

    def accept() -> None:
        while not ended.is_set():
            try:
                near, _ = listener.accept()
            except TimeoutError:
                continue
            far = socket.create_connection(("127.0.0.1", port))
            for pair in ((near, far), (far, near)):
                pumps.append(threading.Thread(target=pump, args=pair))
                pumps[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1], hold
    finally:
        ended.set()
        for thread in (accepting, *pumps):
            thread.join()
        listener.close()


# --- all is well --------------------------------------------------------------------------------


def test_healthy_servers_pass_every_check(measure: Measure) -> None:
    found = measure()
    assert {f"{i}: {o.reason}" for i, o in found.items() if o.verdict != "pass"} == set()
    assert {i for i in found if WEST in i} == {
        f"link.{WEST}",
        f"replication_lag.{WEST}",
        f"key_count.{WEST}.db0",
        f"canary_lag.{WEST}",
        f"required_keys.{WEST}",
        f"clients.{WEST}",
    }
    assert len(found) == 6 * 3 - 4  # the primary is compared with nobody
    assert "us-east-1 1,00" in found[f"key_count.{WEST}.db0"].reason


# --- replicas that are not what they should be --------------------------------------------------


def test_a_stopped_replica_is_named_and_the_others_are_measured(
    servers: stores.Redis, measure: Measure, mended: None
) -> None:
    servers.stop(EU)
    try:
        found = measure()
    finally:
        servers.start(EU)
    for name, outcome in found.items():
        if EU in name:
            assert (outcome.verdict, outcome.cause) == ("no_data", "unreachable"), name
            assert outcome.reason.startswith("eu-central-1 (redis 127.0.0.1:")
            assert "Connection refused" in outcome.reason
        else:
            assert outcome.verdict == "pass", name


def test_a_lagging_replica_fails_with_what_it_lacks(
    servers: stores.Redis, measure: Measure, mended: None, impatient: float
) -> None:
    with (
        holding(servers.servers[EAST].port) as (port, hold),
        servers.connect(WEST) as replica,
        servers.connect(EAST) as primary,
    ):
        replica.replicaof("127.0.0.1", port)
        servers.settle()
        hold.set()
        for n in range(3):
            primary.set(f"late:{n}", "made up")
        found = measure(WEST, replication_lag="< 0.1")
        hold.clear()
        servers.settle()
        primary.delete(*(f"late:{n}" for n in range(3)))
    lag = found[f"replication_lag.{WEST}"]
    assert lag.verdict == "fail"
    assert lag.value is not None
    assert lag.value >= impatient - 0.1
    assert "bytes behind and did not catch up" in lag.reason
    keys = found[f"key_count.{WEST}.db0"]
    assert keys.verdict == "fail"
    assert keys.value is not None
    assert keys.value >= 3
    assert "did not catch up with the primary before it was counted" in keys.reason
    assert found[f"canary_lag.{WEST}"].verdict == "fail"
    assert "the canary key was not in us-west-2" in found[f"canary_lag.{WEST}"].reason
    assert found[f"link.{WEST}"].verdict == "pass"  # it is slow, and not severed


def test_a_severed_replica_fails_even_while_nothing_is_written(
    servers: stores.Redis, measure: Measure, mended: None, impatient: float
) -> None:
    with servers.connect(WEST) as replica:
        replica.replicaof("127.0.0.1", free_port())
    link, lag = (
        one(measure(f"link.{WEST}")),
        one(measure(f"replication_lag.{WEST}")),
    )
    assert (link.verdict, link.value) == ("fail", 0)
    assert link.reason.startswith("the link of us-west-2 to its primary is down ")
    assert lag.verdict in ("warn", "fail")
    assert "the link of us-west-2 to its primary is down " in lag.reason


def test_what_is_no_replica_of_the_primary_is_told(
    servers: stores.Redis, measure: Measure, mended: None, impatient: float
) -> None:
    with servers.connect(WEST) as replica:
        replica.slaveof()
    found = measure(WEST)
    assert found[f"link.{WEST}"].reason == (
        "us-west-2 is no replica: it was promoted, or never was one"
    )
    assert found[f"link.{WEST}"].verdict == "fail"
    assert found[f"replication_lag.{WEST}"].cause == "refused"
    with stores.redis_servers(0, regions=["elsewhere"]) as other:
        section = servers.section(canary=False)
        section["primary"] |= {"port": other.servers["elsewhere"].port}
        section["primary"] |= {"password_env": "TARS_GA_OTHER"}
        environ = servers.secrets | {"TARS_GA_OTHER": other.reader.password}
        found = outcomes("redis", section, environ, f"link.{EU}")
    assert one(found).reason == "eu-central-1 is a replica of another server than us-east-1"
    assert one(found).verdict == "fail"


def test_a_primary_that_is_a_replica_is_told(servers: stores.Redis) -> None:
    section = servers.section(canary=False)
    section["primary"]["port"] = servers.servers[WEST].port
    found = outcomes("redis", section, servers.secrets, f"link.{EU}")
    assert one(found).verdict == "fail"
    assert one(found).reason == "us-east-1, named as the primary, is itself a replica"


# --- keys ---------------------------------------------------------------------------------------


def test_a_lost_key_is_counted_and_a_required_one_is_named(
    servers: stores.Redis, measure: Measure, mended: None
) -> None:
    servers.lose(WEST, "key:7", "tars:state")
    required = ["tars:leader", "tars:state"]
    found = measure(required=required)
    keys = found[f"key_count.{WEST}.db0"]
    assert (keys.verdict, keys.value) == ("fail", 2)
    lost = found[f"required_keys.{WEST}"]
    assert (lost.verdict, lost.value) == ("fail", 1)
    assert lost.reason == "not in us-west-2: tars:state"
    assert found[f"required_keys.{EAST}"].verdict == "pass"
    assert found[f"key_count.{EU}.db0"].verdict == "pass"


def test_a_key_that_is_required_and_nowhere_fails_everywhere(measure: Measure) -> None:
    found = measure("required_keys", required=["tars:never", "tars:state", "tars:never"])
    assert {name: o.value for name, o in found.items()} == {
        f"required_keys.{region}": 1 for region in stores.REGIONS
    }
    assert found[f"required_keys.{EAST}"].reason == "not in us-east-1: tars:never"


def test_no_keys_anywhere_is_no_data(measure: Measure) -> None:
    found = one(measure(f"key_count.{WEST}", keys=[{"db": 5}]))
    assert (found.verdict, found.cause) == ("no_data", "no_rows")
    assert found.reason == "db5 has no keys to compare"


def test_each_database_is_counted(servers: stores.Redis, measure: Measure, mended: None) -> None:
    with servers.connect(EAST) as client:
        client.select(3)
        client.set("tars:third", "made up")
    servers.settle()
    found = measure("key_count", keys=[{"db": 3}])
    with servers.connect(EAST) as client:
        client.select(3)
        client.delete("tars:third")
    assert one({k: v for k, v in found.items() if WEST in k}).reason == "us-east-1 1, us-west-2 1"


# --- connections --------------------------------------------------------------------------------


def test_clients_are_a_share_of_those_it_takes(servers: stores.Redis, measure: Measure) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(servers.connect(EU))
        client.config_set("maxclients", 10)
        try:
            while (used := client.info("clients")["connected_clients"]) < 8:
                stack.enter_context(servers.connect(EU)).ping()
            found = measure("clients")
        finally:
            client.config_set("maxclients", 10_000)
    assert used == 8
    assert (found[f"clients.{EU}"].verdict, found[f"clients.{EU}"].value) == ("fail", 0.9)
    assert found[f"clients.{EU}"].reason == "9 of 10 clients, ours included"
    assert found[f"clients.{WEST}"].verdict == "pass"


def test_a_server_that_takes_no_more_clients_is_a_cause_of_its_own(
    servers: stores.Redis, measure: Measure
) -> None:
    with servers.connect(EU) as client:
        client.config_set("maxclients", 1)
        try:
            found = measure(EU)
        finally:
            client.config_set("maxclients", 10_000)
    full = found.pop(f"clients.{EU}")
    assert (full.verdict, full.value) == ("fail", 1)
    assert "takes no more clients" in full.reason
    for name, outcome in found.items():
        assert (outcome.verdict, outcome.cause) == ("no_data", "refused"), name
        assert outcome.reason.startswith("eu-central-1 (")
        assert "takes no more clients" in outcome.reason


@pytest.mark.parametrize(
    ("change", "cause", "reason"),
    [
        ({"password_env": "TARS_GA_WRONG"}, "unauthorised", "refuses our user"),
        ({"username": "nobody"}, "unauthorised", "refuses our user"),
        ({"username": None, "password_env": None}, "unauthorised", "asks for a password"),
        ({"host": "nowhere.example"}, "unreachable", "cannot be reached"),
        ({"password_env": "TARS_GA_UNSET"}, "not_configured", "TARS_GA_UNSET is not set"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_told_with_the_cause(
    servers: stores.Redis, change: dict[str, Any], cause: str, reason: str
) -> None:
    section = servers.section()
    section["replicas"] = [section["replicas"][0] | change]
    environ = servers.secrets | {"TARS_GA_WRONG": HIDDEN}
    found = outcomes("redis", section, environ, WEST)
    assert {(o.verdict, o.cause) for o in found.values()} == {("no_data", cause)}
    assert all(reason in o.reason for o in found.values()), found


def test_a_command_that_we_may_not_send_is_unauthorised(
    servers: stores.Redis, measure: Measure
) -> None:
    with servers.connect(WEST) as client:
        client.execute_command("ACL", "SETUSER", servers.reader.user, "-info")
        try:
            link = one(measure(f"link.{WEST}"))
        finally:
            client.execute_command("ACL", "SETUSER", servers.reader.user, "+info")
    assert (link.verdict, link.cause) == ("no_data", "unauthorised")
    assert "no permissions to run the 'info' command" in link.reason


def test_a_server_that_hangs_is_timed_out(servers: stores.Redis, measure: Measure) -> None:
    process = servers.servers[EU]._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        link = one(measure(f"link.{EU}", connect_timeout="1s"))
    finally:
        process.send_signal(signal.SIGCONT)
    assert (link.verdict, link.cause) == ("no_data", "timed_out")
    assert link.reason.startswith("eu-central-1 (")
    assert link.reason.endswith("gave no answer within 1 s")


def test_tls_is_asked_for_where_the_file_says_so(servers: stores.Redis) -> None:
    section = servers.section() | {"connect_timeout": "1s"}
    section["primary"] |= {"tls": True}
    plain = one(outcomes("redis", section, servers.secrets, f"clients.{EAST}"))
    assert plain.verdict == "no_data"  # the server speaks no TLS
    assert plain.cause in ("timed_out", "unreachable")


# --- nothing is changed, and nothing told -------------------------------------------------------


def test_only_reading_commands_are_sent(servers: stores.Redis, measure: Measure) -> None:
    def sent() -> dict[str, int]:
        with servers.connect(EAST) as client:
            stats = client.info("commandstats")
        return {name.removeprefix("cmdstat_"): said["calls"] for name, said in stats.items()}

    before = sent()
    measure(canary={"enabled": False}, keys=[{}])
    after = sent()
    grown = {name for name in after if after[name] > before.get(name, 0)}
    # The rest is the driver's, as it connects, and the replicas'.
    rest = {"auth", "client|setinfo", "replconf", "ping", "hello"}
    assert {"info", "exists"} <= grown <= {"info", "exists", *rest}


@pytest.mark.parametrize("command", ["SET", "DEL", "SCAN", "KEYS", "FLUSHALL", "CONFIG", "EVAL"])
def test_the_reader_refuses_what_does_not_only_read(servers: stores.Redis, command: str) -> None:
    asked: list[tuple[Any, ...]] = []
    with servers.connect(EAST) as client:
        client.execute_command = lambda *each: asked.append(each)
        reader = redis.Reader(None, client)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"{command} is not a reading command"):
            reader.ask(command, "key:1", "x")
    assert asked == []


def test_the_server_refuses_what_the_checks_user_may_not(servers: stores.Redis) -> None:
    with (
        servers.connect(EAST, servers.reader) as client,
        pytest.raises(driver.exceptions.NoPermissionError),
    ):
        client.set("key:1", "x")


def test_a_canary_that_is_not_allowed_is_not_written(servers: stores.Redis) -> None:
    with servers.connect(EAST) as client:
        client.delete(*(f"tars_ga_canary:{region}" for region in stores.REGIONS))
        section = servers.section(canary=False)
        found = outcomes("redis", section, servers.secrets)
        assert not any("canary" in name for name in found)
        assert client.exists(*(f"tars_ga_canary:{region}" for region in stores.REGIONS)) == 0


def test_a_canary_goes_by_itself(servers: stores.Redis, measure: Measure) -> None:
    assert verdicts(measure("canary")) == {"pass"}
    with servers.connect(EAST) as client:
        assert 0 < int(client.ttl(f"tars_ga_canary:{WEST}")) <= 3_600


def test_a_canary_that_our_user_may_not_write_is_unauthorised(measure: Measure) -> None:
    outcome = one(measure(f"canary_lag.{WEST}", canary={"enabled": True}))
    assert (outcome.verdict, outcome.cause) == ("no_data", "unauthorised")
    assert outcome.reason.startswith("us-east-1 (")


def test_no_password_is_ever_told(servers: stores.Redis) -> None:
    told = []
    for wrong in (False, True):
        section = servers.section()
        if wrong:
            section["replicas"][0] |= {"password_env": "TARS_GA_WRONG"}
            section["replicas"][1] |= {"username": "nobody"}
        environ = servers.secrets | {"TARS_GA_WRONG": HIDDEN}
        # The library's own cleaning does not know these variables: nothing else may tell either.
        found = outcomes("redis", section, environ)
        told += [f"{json.dumps(o.facts())} {o.check!r} {o!r}" for o in found.values()]
    everything = " ".join(told)
    for secret in (HIDDEN, *servers.secrets.values(), servers.owner.password):
        assert secret not in everything


def test_a_problem_is_raised_before_anything_is_sent() -> None:
    section = {"primary": {"region": EAST, "host": "127.0.0.1", "password_env": "TARS_GA_UNSET"}}
    (outcome,) = outcomes("redis", section, {}).values()
    assert outcome.cause == "not_configured"
    assert "TARS_GA_UNSET is not set" in outcome.reason
