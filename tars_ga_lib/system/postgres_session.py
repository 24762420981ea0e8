"""Read-only sessions of PostgreSQL servers, and their refusals as causes.

A session is read-only three times over: by its default, by `BEGIN READ ONLY`, and by sending one
statement at a time, in which no second one can hide. Statements, locks and idle transactions have
time limits, and `application_name` says who asks. A pooler between us and the server must pass the
session's options, so name the servers themselves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tars_ga_lib import extras
from tars_ga_lib.system.check import Cause, NotMeasured
from tars_ga_lib.system.server import Server as _AnyServer
from tars_ga_lib.system.server import add_password
from tars_ga_lib.targets import Postgres, PostgresServer

if TYPE_CHECKING:
    import psycopg

Values = Sequence[object] | Mapping[str, Any]
"""What fills a query's placeholders."""

_FULL = ("too many clients", "remaining connection slots", "too many connections")
_UNAUTHORISED = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "permission denied",
    "not permitted to log in",
)
_NOT_UP = ("starting up", "shutting down", "recovery mode", "not accepting connections")
_GONE = ("57P01", "57P02", "57P03", "08000", "08003", "08006")
_IDLE_MS = 60_000


Server = _AnyServer[Postgres]


class FullError(NotMeasured):
    """The server answers, and has no connection left for us."""


class CancelledError(NotMeasured):
    """The server gave a statement up, after the time that one may take."""


def server(target: PostgresServer, settings: Postgres, environ: Mapping[str, str]) -> Server:
    """Return how a server is reached; its secrets are read from the environment."""
    if target.dsn_env is not None:
        return _by_dsn(target.region, target.dsn_env, settings, environ)
    to = target.model_dump(include={"host", "port", "dbname", "user", "sslmode"})
    if target.sslrootcert is not None:
        to["sslrootcert"] = target.sslrootcert
    address = f"postgres {target.host}:{target.port}/{target.dbname}"
    problem = add_password(to, target.password_env, environ)
    held = (target.password_env,) if target.password_env else ()
    return Server(target.region, address, to, held, settings, problem)


def _by_dsn(region: str, variable: str, settings: Postgres, environ: Mapping[str, str]) -> Server:
    address, problem = f"postgres ${variable}", extras.missing("psycopg")
    to: dict[str, Any] = {}
    if problem:
        return Server(region, address, to, (variable,), settings, problem)
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    if not environ.get(variable):
        problem = f"the environment variable {variable} is not set; put a connection string into it"
    else:
        try:
            to = dict(conninfo_to_dict(environ[variable]))
            host = to.get("host") or to.get("hostaddr") or "localhost"
            address = f"postgres {host}:{to.get('port') or 5432}/{to.get('dbname') or ''}"
        except ProgrammingError:  # its text may repeat the password
            problem = f"what {variable} holds is not a connection string; correct it"
    return Server(region, address, to, (variable,), settings, problem)


class Session:
    """A session with one server.

    Each method raises `NotMeasured`, with that server's name, for whatever goes wrong.
    """

    def __init__(self, to: Server, connection: psycopg.Connection[Any]) -> None:
        self._to = to
        self._connection = connection

    def row(self, query: str, values: Values = ()) -> tuple[Any, ...]:
        """Return a query's first row, empty if there is none; the values are sent apart from it."""
        return self._execute(query, values).fetchone() or ()

    def run(self, query: str, values: Values = ()) -> float:
        """Run a query, fetch what it returns, and tell how many seconds that took.

        Raises
        ------
        CancelledError
            If the server gave it up after the time that a statement may take.
        """
        began = time.monotonic()
        self._execute(query, values)
        return time.monotonic() - began

    def _execute(self, query: str, values: Values) -> psycopg.Cursor[Any]:
        import psycopg

        try:
            # Answers in binary go by the extended protocol: one statement, and no second one.
            return self._connection.execute(query.encode(), values or None, binary=True)
        except psycopg.Error as error:
            raise _not_answered(self._to, error) from None


@contextmanager
def connected(to: Server, *, write: bool = False) -> Iterator[Session]:
    """Open a session and close it; only the canary's may write.

    Raises
    ------
    NotMeasured
        If there is none to be had.
    """
    import psycopg

    if to.problem:
        raise NotMeasured("not_configured", to.problem)
    limit = to.settings.statement_timeout * 1000
    options = {
        "statement_timeout": limit,
        "lock_timeout": limit * 9 // 10,  # the shorter, so that a lock is told as one
        "idle_in_transaction_session_timeout": _IDLE_MS,
        "default_transaction_read_only": "off" if write else "on",
    }
    ours = {
        "connect_timeout": to.settings.connect_timeout,
        "application_name": "tars-ga validate",
        # Ours come last, so they hold whatever a connection string asks for.
        "options": " ".join(
            [str(to.to.get("options") or ""), *(f"-c {n}={value}" for n, value in options.items())]
        ),
    }
    try:
        connection = psycopg.connect(**{**to.to, **ours}, autocommit=write)
    except psycopg.Error as error:
        raise _not_connected(to, error) from None
    try:
        # What the driver prepares is no longer planned each time, and so looks faster than it is.
        connection.prepare_threshold = None
        if not write:
            connection.read_only = True
        yield Session(to, connection)
    finally:
        connection.close()


def _not_connected(to: Server, error: psycopg.Error) -> NotMeasured:
    from psycopg import errors

    text = " ".join(str(error).split())
    said = text.rpartition("failed: ")[2].removeprefix("FATAL: ").strip()
    said = said.partition(" Is the server running")[0]
    if isinstance(error, errors.ConnectionTimeout) or "timeout expired" in text:
        patience = to.settings.connect_timeout
        return NotMeasured("timed_out", f"{to} took no connection within {patience} s")
    if any(sign in text for sign in _FULL):
        return FullError("refused", f"{to} has no connection left: {said}")
    if any(sign in text for sign in _UNAUTHORISED):
        return NotMeasured("unauthorised", f"{to} refuses our role: {said}")
    if any(sign in text for sign in _NOT_UP):
        return NotMeasured("unreachable", f"{to} is not up: {said}")
    if "FATAL" in text or "SSL" in text or "certificate" in text:
        return NotMeasured("refused", f"{to} refuses the connection: {said}")
    return NotMeasured("unreachable", f"{to} cannot be reached: {said}")


def _not_answered(to: Server, error: psycopg.Error) -> NotMeasured:
    from psycopg import errors

    state = error.sqlstate or ""
    said = error.diag.message_primary or " ".join(str(error).split())
    cause: Cause = "error"
    patience = to.settings.statement_timeout
    if isinstance(error, errors.QueryCanceled):
        return CancelledError("timed_out", f"{to}: still running after {patience} s, and cancelled")
    if isinstance(error, errors.LockNotAvailable):
        waited = f"{patience * 0.9:.2g} s"
        return CancelledError("timed_out", f"{to}: no lock within {waited}, and cancelled")
    if isinstance(error, errors.InsufficientPrivilege):
        cause = "unauthorised"
    elif isinstance(error, errors.OperationalError) and (not state or state in _GONE):
        cause, said = "unreachable", f"the connection was lost: {said}"
    elif state:
        cause = "refused"
    return NotMeasured(cause, f"{to}: {said}")
