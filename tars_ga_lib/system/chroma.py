"""Checks of Chroma: servers of several regions that should hold the same vectors.

Its HTTP API (v2) is spoken directly: importing the `chromadb` client takes 2.5 s and 91 MB, and
`requests` 0.2 s and 21 MB. Only GET requests are sent, so nothing can be changed. Chroma has no
replication of its own: what copies the vectors is the application, and a server is compared with
the primary's at one moment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from tars_ga_lib.system import replication
from tars_ga_lib.system.check import Check, NotMeasured, Reading, part
from tars_ga_lib.targets import Chroma, ChromaServer, CollectionCount, ValidationTargets

if TYPE_CHECKING:
    import requests


@dataclass(frozen=True)
class _Server:
    """How a server is reached, or why it cannot be; `headers` are secret and never shown."""

    target: ChromaServer
    settings: Chroma
    headers: Mapping[str, str] = field(repr=False)
    problem: str = ""

    @property
    def region(self) -> str:
        return self.target.region

    @property
    def address(self) -> str:
        return f"chroma {urlsplit(self.target.url).netloc}"

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.target.token_env,) if self.target.token_env else ()

    @property
    def path(self) -> str:
        """Path of the collections of its tenant and database."""
        tenant, database = (quote(n, safe="") for n in (self.target.tenant, self.target.database))
        return f"/api/v2/tenants/{tenant}/databases/{database}/collections"

    def __str__(self) -> str:
        return f"{self.region} ({self.address})"


def checks(targets: ValidationTargets, environ: Mapping[str, str] = os.environ) -> list[Check]:
    """Return the checks of the section `chroma`; connects nowhere."""
    settings = targets.chroma
    if settings is None:
        return []
    # Now, as an import beside a measurement would disturb it.
    import requests  # noqa: F401

    primary = _server(settings.primary, settings, environ)
    return [
        _vectors(primary, _server(each, settings, environ), collection)
        for each in settings.replicas
        for collection in settings.collections
    ]


def _server(target: ChromaServer, settings: Chroma, environ: Mapping[str, str]) -> _Server:
    if target.token_env is None:
        return _Server(target, settings, {})
    token = environ.get(target.token_env)
    if not token:
        problem = f"the environment variable {target.token_env} is not set; put the token into it"
        return _Server(target, settings, {}, problem)
    value = f"Bearer {token}" if target.token_header == "Authorization" else token
    return _Server(target, settings, {target.token_header: value})


def _vectors(primary: _Server, other: _Server, collection: CollectionCount) -> Check:
    name = quote(collection.name, safe="")
    return Check(
        id=f"chroma.vector_count.{part(other.region)}.{part(collection.name)}",
        title=f"Chroma {other.region}: vectors of {collection.name} that differ from the primary's",
        group="replication",
        measure="count_difference",
        region=other.region,
        target=other.address,
        query=f"GET {other.path}/{name}\nGET {other.path}/<its id>/count",
        unit="count",
        limit=collection.difference,
        warning=None,
        read=partial(_read_vectors, primary, other, collection.name),
        secrets=(*primary.secrets, *other.secrets),
    )


def _read_vectors(primary: _Server, other: _Server, name: str) -> Reading:
    import requests

    with requests.Session() as session:
        session.trust_env = False  # no .netrc, no proxy: what is sent where is what we say
        ours, theirs = _find(session, primary, name), _find(session, other, name)
        if ours is None and theirs is None:
            raise NotMeasured("no_rows", f"neither server has a collection {name}")

        def on_primary() -> int:
            return _count(session, primary, ours)

        counts = replication.compare(on_primary, lambda: _count(session, other, theirs))
    if counts.empty:
        raise NotMeasured("no_rows", f"the collection {name} has no vectors to compare")
    details = [f"{primary.region} {counts.before:,}, {other.region} {counts.replica:,}"]
    for server, identity in ((primary, ours), (other, theirs)):
        if identity is None:
            details.append(f"there is no collection {name} in {server.region}")
    missing = counts.before - counts.replica
    if counts.difference and missing > 0 and theirs is not None:
        details.append(f"missing in {other.region}: {missing:,} of {name}")
    elif counts.difference and missing < 0 and ours is not None:
        details.append(f"missing in {primary.region}: {-missing:,} of {name}")
    return Reading(counts.difference, "; ".join(details))


def _find(session: requests.Session, server: _Server, name: str) -> str | None:
    """Return the id of a collection; None where the server has none of that name."""
    found = _get(session, server, f"/{quote(name, safe='')}")
    if found is None:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):
        raise NotMeasured("error", f"{server} does not answer as Chroma does")
    return str(found["id"])


def _count(session: requests.Session, server: _Server, identity: str | None) -> int:
    """Count a collection's vectors; one that is not there has none."""
    if identity is None:
        return 0
    found = _get(session, server, f"/{quote(identity, safe='')}/count")
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise NotMeasured("error", f"{server} does not answer as Chroma does")
    return found


def _get(session: requests.Session, server: _Server, path: str) -> Any:
    """Return a decoded answer; None where there is no such thing."""
    import requests

    if server.problem:
        raise NotMeasured("not_configured", server.problem)
    try:
        answer = session.get(
            server.target.url + server.path + path,
            headers=dict(server.headers),
            timeout=server.settings.timeout,
            allow_redirects=False,
        )
        if answer.status_code == 404 and _says_missing(answer):
            return None
        if answer.status_code in (401, 403):
            raise NotMeasured(
                "unauthorised", f"{server} refuses our token (HTTP {answer.status_code})"
            )
        if answer.status_code != 200:
            raise NotMeasured("refused", f"{server} answers with HTTP {answer.status_code}")
        return answer.json()
    except requests.Timeout:
        patience = server.settings.timeout
        raise NotMeasured("timed_out", f"{server} gave no answer within {patience} s") from None
    except requests.exceptions.SSLError:
        raise NotMeasured("refused", f"the certificate of {server} is not trusted") from None
    except requests.JSONDecodeError:
        raise NotMeasured("error", f"{server} does not answer as Chroma does") from None
    except requests.RequestException:
        raise NotMeasured("unreachable", f"{server} cannot be reached") from None


def _says_missing(answer: requests.Response) -> bool:
    """Tell Chroma's word that there is no such collection from a wrong address' 404."""
    return '"NotFoundError"' in answer.text
