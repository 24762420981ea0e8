"""Chroma servers, and collections in them.

Its HTTP API (v2) is spoken directly: importing the `chromadb` client takes 2.5 s and 91 MB, and
`requests` 0.2 s and 21 MB. Only GET requests are sent, so nothing can be changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from tars_ga_lib.system import web
from tars_ga_lib.system.checks import NotMeasured, Scope
from tars_ga_lib.system.server import Server, in_regions
from tars_ga_lib.targets import Chroma, ChromaServer


def servers(scope: Scope) -> list[Server]:
    """Return the section's servers, the primary first."""
    settings = scope.targets.chroma
    return in_regions(settings, partial(server, settings=settings, environ=scope.environ))


def server(target: ChromaServer, settings: Chroma | None, environ: Mapping[str, str]) -> Server:
    """Return how a server is reached: `to` has its token's header, if it asks for one."""
    held, problem = web.token(target.token_env, environ)
    bearer = target.token_header == "Authorization"
    tenant, database = (quote(name, safe="") for name in (target.tenant, target.database))
    path = f"/api/v2/tenants/{tenant}/databases/{database}/collections"
    return Server(
        region=target.region,
        address=f"chroma {urlsplit(target.url).netloc}",
        parts=(target.region,),
        secrets=(target.token_env,) if target.token_env else (),
        to={
            "url": target.url + path,
            "path": path,
            "headers": {target.token_header: f"Bearer {held}" if bearer else held} if held else {},
        },
        settings=settings,
        problem=problem,
    )


def asked(at: Server) -> str:
    """Write what is asked of a server about the collection that a check is of."""
    path, name = at.to["path"], quote(at.of.name, safe="")
    return f"GET {path}/{name}\nGET {path}/<its id>/count"


class Collection:
    """A collection of a server; its `identity` is None where the server has none of that name.

    Raises
    ------
    NotMeasured
        If the server does not answer, or not as Chroma does.
    """

    def __init__(self, at: Server, name: str) -> None:
        to = at.usable()
        self.at = at
        self._server = web.Server(to["url"], str(at), at.settings.timeout, to["headers"])
        self.identity: str | None = None
        body = self._get(f"/{quote(name, safe='')}")
        if body is not None:
            self.identity = body.get("id") if isinstance(body, dict) else None
            if not isinstance(self.identity, str):
                raise self._unlike()

    def count(self) -> int:
        """Return how many vectors it has; one that is not there has none."""
        if self.identity is None:
            return 0
        number = self._get(f"/{quote(self.identity, safe='')}/count")
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise self._unlike()
        return number

    def _get(self, path: str) -> Any:
        """Return a decoded answer; None where there is no such thing."""
        answer = self._server.ask("GET", path)
        # Chroma's word that there is no such collection is told from a wrong address' 404.
        if answer.status == 404 and "NotFoundError" in str(answer.body):
            return None
        if answer.status != 200:
            raise NotMeasured("refused", f"{self.at} answers with HTTP {answer.status}")
        if answer.body is None:
            raise self._unlike()
        return answer.body

    def _unlike(self) -> NotMeasured:
        return NotMeasured("error", f"{self.at} does not answer as Chroma does")
