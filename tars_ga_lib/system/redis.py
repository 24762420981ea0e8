"""Reading clients of Redis servers, and their refusals as causes.

Redis has no read-only session, so `Reader` is one: it sends INFO, EXISTS and GET, and
refuses every other command before a byte leaves. The user needs `+info +exists` and nothing more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tars_ga_lib.system.checks import NotMeasured, Scope
from tars_ga_lib.system.server import FullError, Server, add_password, in_regions
from tars_ga_lib.targets import Redis, RedisServer

with contextlib.suppress(ModuleNotFoundError):  # then each check says so
    from redis import RedisError, exceptions
    from redis.backoff import NoBackoff
    from redis.retry import Retry

READS = frozenset({"INFO", "EXISTS", "GET"})
"""The commands that a check may send."""


def servers(scope: Scope) -> list[Server]:
    """Return the section's servers, the primary first."""
    settings = scope.targets.redis
    return in_regions(settings, partial(server, settings=settings, environ=scope.environ))


def server(target: RedisServer, settings: Redis | None, environ: Mapping[str, str]) -> Server:
    """Return how a server is reached; its secrets are read from the environment."""
    to: dict[str, Any] = {"host": target.host, "port": target.port, "username": target.username}
    if target.tls:
        to |= {"ssl": True, "ssl_ca_certs": target.ca_file}
    problem = add_password(to, target.password_env, environ)
    return Server(
        region=target.region,
        address=f"redis {target.host}:{target.port}",
        parts=(target.region,),
        secrets=(target.password_env,) if target.password_env else (),
        to=to,
        settings=settings,
        problem=problem,
    )


class Reader:
    """A client that sends reading commands only.

    Each method raises `NotMeasured`, with that server's name, for whatever goes wrong.
    """

    def __init__(self, to: Server, client: Any) -> None:
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
        try:
            return self._send(*command)
        except RedisError as error:
            raise _not_answered(self._to, error) from None

    def info(self, section: str) -> dict[str, Any]:
        """Return a section of INFO."""
        said: dict[str, Any] = self.ask("INFO", section)
        return said

    def offset(self) -> int:
        """Return how far a primary has written."""
        return int(self.info("replication")["master_repl_offset"])

    def applied(self, offset: int) -> bool:
        """Tell whether a replica has applied all up to an offset."""
        return int(self.info("replication").get("slave_repl_offset", -1)) >= offset


class Writer(Reader):
    """A client that writes the canary, besides."""

    def write(self, key: str, value: str, seconds: int) -> None:
        """Write a key that goes again by itself after so many seconds."""
        self._ask("SET", key, value, "EX", seconds)


@contextlib.contextmanager
def connected(to: Server, *, write: bool = False) -> Iterator[Any]:
    """Give a `Reader`, or a `Writer`; it connects when it is used, and is closed at the end."""
    import redis

    client = redis.Redis(
        **to.usable(),
        decode_responses=True,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=to.settings.connect_timeout,
        socket_timeout=to.settings.connect_timeout,
    )
    with contextlib.closing(client):
        yield Writer(to, client) if write else Reader(to, client)


def _not_answered(to: Server, error: RedisError) -> NotMeasured:
    said = " ".join(str(error).split())
    if isinstance(error, exceptions.TimeoutError):
        patience = to.settings.connect_timeout
        return NotMeasured("timed_out", f"{to} gave no answer within {patience} s")
    if "Authentication required" in said:
        return NotMeasured("unauthorised", f"{to} asks for a password")
    if isinstance(error, (exceptions.AuthenticationError, exceptions.NoPermissionError)):
        return NotMeasured("unauthorised", f"{to} refuses our user: {said}")
    if "max number of clients" in said:
        return FullError("refused", f"{to} takes no more clients: {said}")
    if isinstance(error, exceptions.BusyLoadingError):
        return NotMeasured("unreachable", f"{to} is not up: {said}")
    if isinstance(error, exceptions.ConnectionError):
        return NotMeasured("unreachable", f"{to} cannot be reached: {said}")
    return NotMeasured("refused", f"{to}: {said}")
