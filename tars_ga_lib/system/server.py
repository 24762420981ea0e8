"""The servers of a store: a primary and its replicas, as places that checks are made at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tars_ga_lib.system.checks import NotMeasured, Place


class FullError(NotMeasured):
    """The server answers, and has no connection left for us."""


@dataclass(frozen=True, kw_only=True)
class Server(Place):
    """How a server is reached, or why it cannot be.

    `to` holds secrets and is never shown. A replica has its `upstream`, the primary.
    """

    to: Mapping[str, Any] = field(repr=False)
    problem: str = ""
    upstream: Server | None = None

    def __str__(self) -> str:
        return f"{self.region} ({self.address})"

    @property
    def primary(self) -> Server:
        """A replica's primary; the primary itself."""
        return self.upstream or self

    def usable(self) -> dict[str, Any]:
        """Return `to`.

        Raises
        ------
        NotMeasured
            If there is a problem with it.
        """
        if self.problem:
            raise NotMeasured("not_configured", self.problem)
        return dict(self.to)


def in_regions(settings: Any, reach: Callable[[Any], Server]) -> list[Server]:
    """Return a section's servers, the primary first; none where there is no such section."""
    if settings is None:
        return []
    primary = reach(settings.primary)
    more = primary.secrets
    if variable := getattr(getattr(settings, "canary", None), "password_env", None):
        more = (*more, variable)
    replicas = [reach(target) for target in settings.replicas]
    return [primary] + [replace(r, upstream=primary, secrets=r.secrets + more) for r in replicas]


def replicas(servers: Iterable[Server]) -> list[Server]:
    """Return the servers that follow a primary."""
    return [at for at in servers if at.upstream]


def canaries(servers: Iterable[Server], environ: Mapping[str, str], user_key: str) -> list[Server]:
    """Return the replicas on which a canary is awaited, each as a place of who writes it.

    That is the primary as the canary's own user reaches it, or ours where it has none; `user_key`
    is what the store's driver calls a user.
    """
    places = []
    for at in replicas(servers):
        canary, to = at.settings.canary, dict(at.primary.to)
        if canary.user is not None:
            to[user_key] = canary.user
            to.pop("password", None)
        problem = at.primary.problem or add_password(to, canary.password_env, environ)
        if canary.enabled:
            places.append(at.asked(replace(at.primary, to=to, problem=problem)))
    return places


def add_password(to: dict[str, Any], variable: str | None, environ: Mapping[str, str]) -> str:
    """Add the password that a variable holds; return what is wrong with it."""
    if variable is None:
        return ""
    if not environ.get(variable):
        return f"the environment variable {variable} is not set; put the password into it"
    to["password"] = environ[variable]
    return ""


def both(first: str, second: str, sign: str = "--") -> str:
    """Write what is asked of a primary and of its replica."""
    return f"{sign} on the primary\n{first}\n{sign} on the replica\n{second}"
