"""One server of a store, and how a check of it is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from tars_ga_lib.grammar import Limit
from tars_ga_lib.system.check import Check, Group, Reading, part
from tars_ga_lib.targets import Canary

S = TypeVar("S")

_ID = {"PostgreSQL": "postgres", "Redis": "redis"}


@dataclass(frozen=True)
class Server(Generic[S]):
    """How a server is reached, or why it cannot be; `to` holds secrets and is never shown."""

    region: str
    address: str
    to: Mapping[str, Any] = field(repr=False)
    secrets: tuple[str, ...]
    settings: S
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.region} ({self.address})"


def add_password(to: dict[str, Any], variable: str | None, environ: Mapping[str, str]) -> str:
    """Add the password that a variable holds; return what is wrong with it."""
    if variable is None:
        return ""
    if not environ.get(variable):
        return f"the environment variable {variable} is not set; put the password into it"
    to["password"] = environ[variable]
    return ""


def writer(
    primary: Server[S], canary: Canary, environ: Mapping[str, str], user_key: str
) -> Server[S]:
    """Return the primary as the canary's own user reaches it, or ours where it has none.

    `user_key` is what the store's driver calls a user.
    """
    to = dict(primary.to)
    if canary.user is not None:
        to[user_key] = canary.user
        to.pop("password", None)
    problem = primary.problem or add_password(to, canary.password_env, environ)
    held = (*primary.secrets, *((canary.password_env,) if canary.password_env else ()))
    return replace(primary, to=to, secrets=held, problem=problem)


def check_of(
    system: str,
    name: str,
    title: str,
    group: Group,
    at: Server[Any],
    limit: Limit,
    read: Callable[[], Reading],
    query: str,
    *,
    also: Server[Any] | None = None,
    rest: str = "",
    measure: str | None = None,
    unit: str = "bool",
    warning: Limit | None = None,
) -> Check:
    """Return a check of one server, or of one beside its primary, `also`."""
    return Check(
        id=".".join([_ID[system], name, part(at.region), *([part(rest)] if rest else [])]),
        title=f"{system} {at.region}: {title}",
        group=group,
        measure=measure,
        region=at.region,
        target=at.address,
        query=query,
        unit=unit,
        limit=limit,
        warning=warning,
        read=read,
        secrets=(*at.secrets, *(also.secrets if also else ())),
    )
