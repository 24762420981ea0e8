"""Read-only sessions of PostgreSQL servers, and their refusals as causes.

A session is read-only three times over: by its default, by `BEGIN READ ONLY`, and by sending one
statement at a time, in which no second one can hide. Statements, locks and idle transactions have
time limits, and `application_name` says who asks. A pooler between us and the server must pass the
session's options, so name the servers themselves. The role needs SELECT on the tables and
membership in `pg_monitor`, and nothing more.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tars_ga_lib import extras
from tars_ga_lib.system.checks import Cause, NotMeasured, Scope
from tars_ga_lib.system.server import FullError, Server, add_password, in_regions
from tars_ga_lib.targets import Postgres, PostgresServer

with contextlib.suppress(ModuleNotFoundError):  # then each check says so
    from psycopg import conninfo, errors

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


class CancelledError(NotMeasured):
    """The server gave a statement up, after the time that one may take."""


def servers(scope: Scope) -> list[Server]:
    """Return the section's servers, the primary first."""
    settings = scope.targets.postgres
    return in_regions(settings, partial(server, settings=settings, environ=scope.environ))


def server(target: PostgresServer, settings: Postgres | None, environ: Mapping[str, str]) -> Server:
    """Return how a server is reached; its secrets are read from the environment."""
    to: dict[str, Any] = {}
    if (variable := target.dsn_env) is None:
        to = target.model_dump(
            include={"host", "port", "dbname", "user", "sslmode", "sslrootcert"}, exclude_none=True
        )
        problem = add_password(to, variable := target.password_env, environ)
        address = f"postgres {target.host}:{target.port}/{target.dbname}"
    elif not environ.get(variable):
        problem = f"the environment variable {variable} is not set; put a connection string into it"
        address = f"postgres ${variable}"
    elif problem := extras.missing("psycopg"):
        address = f"postgres ${variable}"
    else:
        to, address, problem = _parse(variable, environ[variable])
    return Server(
        region=target.region,
        address=address,
        parts=(target.region,),
        secrets=(variable,) if variable else (),
        to=to,
        settings=settings,
        problem=problem,
    )


def _parse(variable: str, dsn: str) -> tuple[dict[str, Any], str, str]:
    """Return a connection string's parameters, what is shown of them, and what is wrong."""
    try:
        to = dict(conninfo.conninfo_to_dict(dsn))
    except errors.ProgrammingError:  # its text may repeat the password
        problem = f"what {variable} holds is not a connection string; correct it"
        return {}, f"postgres ${variable}", problem
    host = to.get("host") or to.get("hostaddr") or "localhost"
    return to, f"postgres {host}:{to.get('port') or 5432}/{to.get('dbname') or ''}", ""


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
        try:
            # Answers in binary go by the extended protocol: one statement, and no second one.
            return self._connection.execute(query.encode(), values or None, binary=True)
        except errors.Error as error:
            raise _not_answered(self._to, error) from None


@contextlib.contextmanager
def connected(to: Server, *, write: bool = False) -> Iterator[Session]:
    """Open a session and close it; only the canary's may write.

    Raises
    ------
    NotMeasured
        If there is none to be had.
    """
    import psycopg

    given = to.usable()
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
            [str(given.get("options") or ""), *(f"-c {n}={value}" for n, value in options.items())]
        ),
    }
    try:
        connection = psycopg.connect(**{**given, **ours}, autocommit=write)
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


def quoted(name: str) -> str:
    """Write a name, of a schema too where it has one, as SQL."""
    return ".".join('"{}"'.format(part.replace('"', '""')) for part in name.split("."))


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the nodes of a plan that EXPLAIN tells as JSON, from the top."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def _not_connected(to: Server, error: psycopg.Error) -> NotMeasured:
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
