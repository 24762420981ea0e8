"""Checks of Redis: one primary and its replicas.

Redis has no read-only session, so `_Reader` is one: it sends INFO, EXISTS, SCAN and GET, and
refuses every other command before a byte leaves. The user needs `+info +exists` (and, to count a
pattern's keys, `+scan +select`), and nothing more.

**Lag** is the time until a replica has applied what the primary had written when it was asked, by
their replication offsets: the `lag` that the primary tells is in whole seconds. WAIT is not used,
as it speaks of the asking connection's own writes. **Counts** come from `INFO keyspace`, which
costs nothing; a pattern is counted by SCAN, never by KEYS, and only in a database of up to 100,000
keys. **The canary** is one key, written only where `canary.enabled` allows it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from tars_ga_lib.grammar import Limit
from tars_ga_lib.system import replication
from tars_ga_lib.system.check import Check, NotMeasured, Reading
from tars_ga_lib.system.server import Server, add_password, check_of, writer
from tars_ga_lib.targets import KeyCount, Redis, RedisServer, ValidationTargets

if TYPE_CHECKING:
    import redis

_Server = Server[Redis]
_check = partial(check_of, "Redis")

READS = frozenset({"INFO", "EXISTS", "SCAN", "GET"})
"""The commands that a check may send."""

SCANNED = 100_000
"""Keys of the largest database in which a pattern is counted."""

_YES = Limit("==", 1)
_NONE = Limit("==", 0)
_BATCH = 1_000
_KEPT = 3_600
_FULL = "max number of clients"


class FullError(NotMeasured):
    """The server answers, and takes no more clients."""


def checks(targets: ValidationTargets, environ: Mapping[str, str] = os.environ) -> list[Check]:
    """Return the checks of the section `redis`; connects nowhere."""
    settings = targets.redis
    if settings is None:
        return []
    with contextlib.suppress(ImportError):  # then each check says so
        # Now, as an import beside a measurement would disturb it.
        import redis  # noqa: F401

    primary = _server(settings.primary, settings, environ)
    replicas = [_server(each, settings, environ) for each in settings.replicas]
    found = []
    for replica in replicas:
        found += [_link(primary, replica), _lag(primary, replica)]
        found += [_keys(primary, replica, count) for count in settings.keys]
        if settings.canary.enabled:
            found.append(_canary(writer(primary, settings.canary, environ, "username"), replica))
    for each in (primary, *replicas):
        if settings.required:
            found.append(_required(each))
        found.append(_clients(each))
    return found


# --- connecting ----------------------------------------------------------------------------------


class _Reader:
    """A client that sends reading commands only.

    Each method raises `NotMeasured`, with that server's name, for whatever goes wrong.
    """

    def __init__(self, to: _Server, client: redis.Redis) -> None:
        self._to = to
        self._send: Any = client.execute_command

    def ask(self, command: str, *arguments: object) -> Any:
        """Send a command and return its decoded answer.

        Raises
        ------
        ValueError
            If the command does not only read; nothing is sent then.
        """
        if command not in READS:
            raise ValueError(f"{command} is not a reading command, so it is not sent")
        return self._ask(command, *arguments)

    def _ask(self, *command: object) -> Any:
        from redis import RedisError

        try:
            return self._send(*command)
        except RedisError as error:
            raise _not_answered(self._to, error) from None

    def info(self, section: str) -> dict[str, Any]:
        """Return a section of INFO."""
        found: dict[str, Any] = self.ask("INFO", section)
        return found

    def offset(self) -> int:
        """Return how far a primary has written."""
        said = self.info("replication")
        return int(said["master_repl_offset"])

    def applied(self, offset: int) -> bool:
        """Tell whether a replica has applied all up to an offset."""
        return int(self.info("replication").get("slave_repl_offset", -1)) >= offset


class _Writer(_Reader):
    """A client that writes the canary, besides."""

    def write(self, key: str, token: str) -> None:
        """Write a key that goes again by itself."""
        self._ask("SET", key, token, "EX", _KEPT)


def _server(target: RedisServer, settings: Redis, environ: Mapping[str, str]) -> _Server:
    if target.url_env is not None:
        return _by_url(target.region, target.url_env, settings, environ)
    to: dict[str, Any] = {"host": target.host, "port": target.port, "username": target.username}
    if target.tls:
        to |= {"ssl": True, "ssl_ca_certs": target.ca_file}
    problem = add_password(to, target.password_env, environ)
    held = (target.password_env,) if target.password_env else ()
    address = f"redis {target.host}:{target.port}"
    return _Server(target.region, address, to, held, settings, problem)


def _by_url(region: str, variable: str, settings: Redis, environ: Mapping[str, str]) -> _Server:
    from redis import connection

    parse_url: Any = connection.parse_url
    address, problem = f"redis ${variable}", ""
    to: dict[str, Any] = {}
    if not environ.get(variable):
        problem = f"the environment variable {variable} is not set; put a URL into it"
    else:
        try:
            to = dict(parse_url(environ[variable]))
            to["ssl"] = bool(to.pop("connection_class", None))
            address = f"redis {to.get('host', 'localhost')}:{to.get('port', 6379)}"
        except ValueError:  # its text may repeat the password
            problem = f"what {variable} holds is not a URL; write it like rediss://user:…@host:6379"
    return _Server(region, address, to, (variable,), settings, problem)


@contextmanager
def _client(to: _Server, db: int = 0) -> Iterator[redis.Redis]:
    """Make a client, which connects when it is used, and close it."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    if to.problem:
        raise NotMeasured("not_configured", to.problem)
    ours = {
        "db": db,
        "decode_responses": True,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": to.settings.connect_timeout,
        "socket_timeout": to.settings.connect_timeout,
    }
    try:
        client = redis.Redis(**{**to.to, **ours})
    except TypeError:  # a parameter in the URL that there is not
        problem = f"what {to.secrets[0]} holds asks for what there is not; write it simpler"
        raise NotMeasured("not_configured", problem) from None
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _connected(to: _Server, db: int = 0) -> Iterator[_Reader]:
    with _client(to, db) as client:
        yield _Reader(to, client)


def _not_answered(to: _Server, error: redis.RedisError) -> NotMeasured:
    from redis import exceptions

    said = " ".join(str(error).split())
    if isinstance(error, exceptions.TimeoutError):
        patience = to.settings.connect_timeout
        return NotMeasured("timed_out", f"{to} gave no answer within {patience} s")
    if "Authentication required" in said:
        return NotMeasured("unauthorised", f"{to} asks for a password")
    if isinstance(error, (exceptions.AuthenticationError, exceptions.NoPermissionError)):
        return NotMeasured("unauthorised", f"{to} refuses our user: {said}")
    if _FULL in said:
        return FullError("refused", f"{to} takes no more clients: {said}")
    if isinstance(error, exceptions.BusyLoadingError):
        return NotMeasured("unreachable", f"{to} is not up: {said}")
    if isinstance(error, exceptions.ConnectionError):
        return NotMeasured("unreachable", f"{to} cannot be reached: {said}")
    return NotMeasured("refused", f"{to}: {said}")


def _both(first: str, second: str) -> str:
    return f"# on the primary\n{first}\n# on the replica\n{second}"


# --- replication ---------------------------------------------------------------------------------


def _link(primary: _Server, replica: _Server) -> Check:
    return _check(
        "link",
        "receives from the primary",
        "replication",
        replica,
        _YES,
        partial(_read_link, primary, replica),
        _both("INFO replication", "INFO replication"),
        also=primary,
    )


def _read_link(primary: _Server, replica: _Server) -> Reading:
    with _connected(replica) as reader:
        theirs = reader.info("replication")
    if theirs["role"] != "slave":
        return Reading(0, f"{replica.region} is no replica: it was promoted, or never was one")
    if theirs["master_link_status"] != "up":
        return Reading(0, _down(replica, theirs))
    with _connected(primary) as reader:
        ours = reader.info("replication")
    if ours["role"] != "master":
        return Reading(0, f"{primary.region}, named as the primary, is itself a replica")
    if str(ours["master_replid"]) != str(theirs["master_replid"]):
        return Reading(0, f"{replica.region} is a replica of another server than {primary.region}")
    return Reading(1, "master_link_status is up")


def _down(replica: _Server, said: Mapping[str, Any]) -> str:
    seconds = said.get("master_link_down_since_seconds", -1)
    since = f"for {seconds} s" if seconds >= 0 else "and never was up"
    return f"the link of {replica.region} to its primary is down {since}"


def _lag(primary: _Server, replica: _Server) -> Check:
    return _check(
        "replication_lag",
        "replication lag",
        "replication",
        replica,
        primary.settings.replication_lag,
        partial(_read_lag, primary, replica),
        _both("INFO replication", "INFO replication"),
        also=primary,
        measure="replication_lag",
        unit="s",
        warning=primary.settings.replication_lag_warning,
    )


def _read_lag(primary: _Server, replica: _Server) -> Reading:
    with _connected(primary) as ours, _connected(replica) as theirs:
        if theirs.info("replication")["role"] != "slave":
            raise NotMeasured("refused", f"{replica} is no replica, so it has no lag to ask for")
        lag = replication.worst_lag(lambda: replication.catch_up(ours.offset, theirs.applied))
        said = theirs.info("replication")
        missing = ours.offset() - int(said["slave_repl_offset"])
    if said["master_link_status"] == "up":
        if lag.reached:
            return lag.reading()
        details = f"{replica.region} is {missing:,} bytes behind"
        return lag.reading(f"{details} and did not catch up in {lag.low:.3g} s")
    # What a severed replica lacks is at least as old as we waited, and at most as its severance.
    down = max(lag.low, float(said.get("master_link_down_since_seconds", -1)))
    if lag.reached:
        return Reading(lag.seconds, doubt=f"{_down(replica, said)}; so far it lacks nothing")
    return Reading(
        down, f"{_down(replica, said)}; it lacks {missing:,} bytes", interval=(lag.low, down)
    )


def _canary(primary: _Server, replica: _Server) -> Check:
    key = primary.settings.canary.table
    return _check(
        "canary_lag",
        "a canary key arrives",
        "replication",
        replica,
        primary.settings.replication_lag,
        partial(_read_canary, primary, replica, f"{key}:{replica.region}"),
        _both(f"SET {key}:{replica.region} <token> EX {_KEPT}", f"GET {key}:{replica.region}"),
        also=primary,
        measure="replication_lag",
        unit="s",
        warning=primary.settings.replication_lag_warning,
    )


def _read_canary(primary: _Server, replica: _Server, key: str) -> Reading:
    with _client(primary) as client, _connected(replica) as theirs:
        ours = _Writer(primary, client)

        def mark() -> str:
            token = secrets.token_hex(8)
            ours.write(key, token)
            return token

        lag = replication.worst_lag(
            lambda: replication.catch_up(mark, lambda token: theirs.ask("GET", key) == token)
        )
    if not lag.reached:
        return lag.reading(f"the canary key was not in {replica.region} after {lag.low:.3g} s")
    return lag.reading()


# --- keys ----------------------------------------------------------------------------------------


def _keys(primary: _Server, replica: _Server, count: KeyCount) -> Check:
    query = f"INFO keyspace (db{count.db})"
    if count.pattern is not None:
        query = f"SCAN <cursor> MATCH {count.pattern} COUNT {_BATCH} (db{count.db})"
    what = f"keys of db{count.db}" + (f" like {count.pattern}" if count.pattern else "")
    return _check(
        "key_count",
        f"{what} that differ from the primary's",
        "replication",
        replica,
        count.difference,
        partial(_read_keys, primary, replica, count),
        query,
        also=primary,
        rest=f"db{count.db}" + (f"_{count.pattern}" if count.pattern else ""),
        measure="count_difference",
        unit="count",
    )


def _read_keys(primary: _Server, replica: _Server, count: KeyCount) -> Reading:
    db = count.db if count.pattern is not None else 0  # INFO tells of every database
    follows = [True]
    with _connected(primary, db) as ours, _connected(replica, db) as theirs:

        def on_replica() -> int:
            if follows[0]:  # one that has not caught up is not waited for again
                follows[0] = replication.catch_up(ours.offset, theirs.applied).reached
            return _count(replica, theirs, count)

        counts = replication.compare(lambda: _count(primary, ours, count), on_replica)
    if counts.empty:
        like = f" like {count.pattern}" if count.pattern else ""
        raise NotMeasured("no_rows", f"db{count.db} has no keys{like} to compare")
    details = f"{primary.region} {counts.before:,}, {replica.region} {counts.replica:,}"
    if not follows[0]:
        details += "; the replica did not catch up with the primary before it was counted"
    return Reading(counts.difference, details)


def _count(at: _Server, reader: _Reader, count: KeyCount) -> int:
    every = int(reader.info("keyspace").get(f"db{count.db}", {}).get("keys", 0))
    if count.pattern is None:
        return every
    if every > SCANNED:
        raise NotMeasured(
            "refused",
            f"{at}: db{count.db} holds {every:,} keys, and a pattern is counted in up to "
            f"{SCANNED:,} only; count the whole database",
        )
    found: set[str] = set()  # SCAN may return a key twice
    cursor = 0
    while True:
        cursor, keys = reader.ask("SCAN", cursor, "MATCH", count.pattern, "COUNT", _BATCH)
        found.update(keys)
        if not int(cursor):
            return len(found)


def _required(at: _Server) -> Check:
    return _check(
        "required_keys",
        "required keys that are missing",
        "replication",
        at,
        _NONE,
        partial(_read_required, at),
        f"EXISTS {' '.join(at.settings.required)}",
        unit="count",
    )


def _read_required(at: _Server) -> Reading:
    wanted = list(dict.fromkeys(at.settings.required))
    with _connected(at) as reader:
        if reader.ask("EXISTS", *wanted) == len(wanted):
            return Reading(0, f"all {len(wanted)} are there")
        missing = [key for key in wanted if not reader.ask("EXISTS", key)]
    return Reading(len(missing), f"not in {at.region}: {', '.join(missing)}")


# --- clients -------------------------------------------------------------------------------------


def _clients(at: _Server) -> Check:
    return _check(
        "clients",
        "clients of those it takes",
        "database",
        at,
        at.settings.clients,
        partial(_read_clients, at),
        "INFO clients",
        unit="ratio",
    )


def _read_clients(at: _Server) -> Reading:
    try:
        with _connected(at) as reader:
            said = reader.info("clients")
    except FullError as error:
        # That none is left is measured, even if it leaves us none to ask by.
        return Reading(1, error.reason)
    used, most = int(said["connected_clients"]), int(said["maxclients"])
    return Reading(used / most, f"{used} of {most:,} clients, ours included")
