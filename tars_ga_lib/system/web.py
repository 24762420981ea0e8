"""JSON asked of an HTTP server: each refusal is a cause, and our credentials go nowhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from tars_ga_lib import strict
from tars_ga_lib.system.checks import NotMeasured


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, its JSON (None if it is none), and the seconds until all of it was there."""

    status: int
    body: Any
    seconds: float

    @property
    def message(self) -> str:
        """What the server says is wrong."""
        said = self.body.get("message") if isinstance(self.body, dict) else None
        return f"HTTP {self.status}" + (f" ({said})" if said else "")


class Server:
    """An HTTP server, to which a connection is kept.

    Parameters
    ----------
    name
        What it is called in sentences.
    timeout
        Seconds until an answer must have begun.
    headers
        Sent with each request; they hold secrets and are never shown.
    ca_file
        Certificates that are trusted, where the system's are not meant.
    remedy
        What to do where our credentials are refused.
    """

    def __init__(
        self,
        url: str,
        name: str,
        timeout: float,
        headers: Mapping[str, str],
        *,
        ca_file: str | None = None,
        remedy: str = "see the token",
    ) -> None:
        self._url, self._name, self._timeout, self._remedy = url, name, timeout, remedy
        self._session = requests.Session()
        self._session.trust_env = False  # no .netrc, no proxy: what is sent where is what we say
        self._session.verify = ca_file or True
        self._session.headers.update(headers)

    def ask(self, method: str, path: str, json: Any = None) -> Answer:
        """Ask, and read the whole answer; no redirect is followed, and no proxy is used.

        Raises
        ------
        NotMeasured
            If no answer comes, or it refuses our credentials or sends us elsewhere.
        """
        started = time.perf_counter()
        try:
            response = self._session.request(
                method,
                self._url + path,
                json=json,
                timeout=(min(5, self._timeout), self._timeout),
                allow_redirects=False,
            )
        except requests.Timeout:
            raise NotMeasured(
                "timed_out", f"{self._name} gave no answer within {self._timeout} s"
            ) from None
        except requests.exceptions.SSLError:
            raise NotMeasured(
                "refused", f"the certificate of {self._name} is not trusted"
            ) from None
        except requests.RequestException as error:
            kind = type(error).__name__
            raise NotMeasured("unreachable", f"{self._name} cannot be reached ({kind})") from None
        seconds = time.perf_counter() - started
        try:
            body = strict.loads(response.content)
        except ValueError:
            body = None
        answer = Answer(response.status_code, body, seconds)
        if answer.status in (401, 403):
            raise NotMeasured(
                "unauthorised", f"{self._name} refuses us: {answer.message}; {self._remedy}"
            )
        if 300 <= answer.status < 400:
            raise NotMeasured(
                "refused",
                f"{self._name} sends us elsewhere (HTTP {answer.status}), as to a page for signing "
                "in",
            )
        return answer


def token(variable: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the token that a variable holds, and what is wrong with it."""
    if variable is None or environ.get(variable):
        return environ[variable] if variable else "", ""
    return "", f"the environment variable {variable} is not set; put the token into it"
