"""How a WebSocket session is opened (credentials, TLS, names), and in words why it failed.

Credentials come from the environment and go nowhere but into the handshake:
`TARS_GA_WS_BEARER_TOKEN`, `TARS_GA_WS_HEADERS` (a JSON object of headers), and for TLS
`TARS_GA_CA_BUNDLE`, `TARS_GA_CLIENT_CERT` and `TARS_GA_CLIENT_KEY`.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tars_ga_lib import strict
from tars_ga_lib.grammar import ParametersError

with contextlib.suppress(ModuleNotFoundError):  # then the monitor says so, and dials nothing
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import (
        ConnectionClosed,
        InvalidHandshake,
        InvalidMessage,
        InvalidStatus,
    )
    from websockets.frames import CLOSE_CODE_EXPLANATIONS
    from websockets.protocol import Protocol

MAX_MESSAGE = 16 << 20
"""Bytes of a message beyond which the monitor gives a session up, to keep its memory bounded."""

CLOSE_WITHIN = 1.0
"""Seconds in which a server must close a session that was asked to close."""

_QUIET = logging.Logger("tars_ga.websocket", logging.CRITICAL + 1)  # it could log headers
_OURS = re.compile(r"host|connection|upgrade|content-length|sec-websocket-.*", re.IGNORECASE)


@dataclass(frozen=True)
class Credentials:
    """What the environment says of how to connect; `repr` shows nothing of it."""

    headers: dict[str, str]
    context: ssl.SSLContext

    def __repr__(self) -> str:
        return "Credentials(…)"

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Credentials:
        """Read the environment.

        Raises
        ------
        ParametersError
            If a variable cannot be used; its value is not repeated.
        """
        headers = _headers(environ.get("TARS_GA_WS_HEADERS") or "{}")
        if token := environ.get("TARS_GA_WS_BEARER_TOKEN"):
            if any(name.lower() == "authorization" for name in headers):
                raise ParametersError(
                    "TARS_GA_WS_HEADERS: names Authorization, which TARS_GA_WS_BEARER_TOKEN gives "
                    "too; unset one of them"
                )
            headers["Authorization"] = f"Bearer {_plain('TARS_GA_WS_BEARER_TOKEN', token)}"
        return cls(headers, _context(environ))

    def hide(self, text: str) -> str:
        """Take our credentials out of what a server said: it may repeat what we sent."""
        secrets = {part for value in self.headers.values() for part in (value, value.split()[-1])}
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) > 3:
                text = text.replace(secret, "…")
        return text


def _plain(name: str, value: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", value):
        raise ParametersError(
            f"{name}: has a value with spaces around it, line ends or characters that a header "
            "cannot carry; correct it"
        )
    return value


def _headers(text: str) -> dict[str, str]:
    name = "TARS_GA_WS_HEADERS"
    try:
        found = strict.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise ParametersError(
            f'{name}: is not a JSON object of texts; write it like \'{{"X-Api-Key": "…"}}\''
        )
    for key, value in found.items():
        if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", key, re.ASCII) or _OURS.fullmatch(key):
            raise ParametersError(f"{name}: {key[:40]!r} is no header that can be set; take it out")
        _plain(name, value)
    return found


def _context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Build what TLS trusts, and who we are: one for all sessions."""

    def no_password() -> str:
        raise ValueError("the key is encrypted")  # rather than ask on the terminal

    try:
        name = "TARS_GA_CA_BUNDLE"
        context = ssl.create_default_context(cafile=environ.get(name) or None)
        if certificate := environ.get("TARS_GA_CLIENT_CERT"):
            name = "TARS_GA_CLIENT_CERT or TARS_GA_CLIENT_KEY"
            key = environ.get("TARS_GA_CLIENT_KEY") or None
            context.load_cert_chain(certificate, key, password=no_password)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise ParametersError(f"{name}: cannot be used ({why}); correct the file's name") from None
    return context


def shown(url: str) -> str:
    """Return a URL without its query and credentials, which may be secrets."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


async def dial(url: str, credentials: Credentials, within: float) -> ClientConnection:
    """Open one session, within so many seconds.

    Nothing but the URL's own server is spoken to: no proxy of the environment, and no redirect to
    another server, which would be given our headers.
    """
    parts = urlsplit(url)
    secure: dict[str, Any] = {}
    if parts.scheme == "wss":
        secure = {
            "ssl": credentials.context,
            "ssl_handshake_timeout": within,
            "ssl_shutdown_timeout": CLOSE_WITHIN,
        }
    return await connect(
        url,
        host=parts.hostname,
        port=parts.port or (443 if secure else 80),
        additional_headers=credentials.headers,
        proxy=None,
        open_timeout=within,
        ping_interval=None,
        close_timeout=CLOSE_WITHIN,
        max_size=MAX_MESSAGE,
        logger=_QUIET,
        **secure,
    )


class Loop(asyncio.SelectorEventLoop):
    """An event loop that looks each name up in a thread of its own.

    The usual pool has few threads, which one dead resolver fills, and waits for them at the end.
    """

    async def getaddrinfo(self, host: Any, port: Any, **hints: int) -> Any:
        """Look a name up."""
        future: asyncio.Future[Any] = self.create_future()

        def look_up() -> None:
            answer: Any = None
            error: Exception | None = None
            try:
                answer = socket.getaddrinfo(host, port, **hints)
            except Exception as problem:
                error = problem
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self.call_soon_threadsafe(tell, answer, error)

        def tell(answer: Any, error: Exception | None) -> None:
            if not future.done():
                future.set_result(answer) if error is None else future.set_exception(error)

        threading.Thread(target=look_up, daemon=True).start()
        return await future


# --- why, in words ------------------------------------------------------------------------------


def refused_credentials(error: BaseException) -> bool:
    """Whether the server is there, and does not let us in."""
    return isinstance(error, InvalidStatus) and error.response.status_code in (401, 403)


def why_not(error: BaseException, within: float) -> str:
    """Say why no session could be opened, from what `dial` raised."""
    if isinstance(error, InvalidStatus):
        return _why_status(error.response.status_code)
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {_why_tls(cause)}"
        if isinstance(cause, socket.gaierror):
            return f"DNS: {(cause.strerror or 'the name cannot be looked up').lower()}"
        if isinstance(cause, TimeoutError):
            return f"no session within {within:g} s"
        if isinstance(cause, ConnectionClosed):
            return why_closed(cause)
        if isinstance(cause, OSError):
            return _why_os(cause)
        if isinstance(cause, EOFError):
            return "it accepted the connection and closed it during the handshake"
    if isinstance(error, InvalidMessage):
        return "its answer to the handshake is not HTTP"
    if isinstance(error, InvalidHandshake):
        return "its answer to the handshake is not that of a WebSocket server"
    if isinstance(error, ValueError) and "redirect" in str(error):
        return "it redirects to another server, which is not followed"
    return f"the session could not be opened ({type(error).__name__})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _why_status(code: int) -> str:
    if code in (401, 403):
        return (
            f"HTTP {code}: it refuses our credentials; set TARS_GA_WS_BEARER_TOKEN or "
            "TARS_GA_WS_HEADERS"
        )
    with contextlib.suppress(ValueError):
        return f"HTTP {code} ({http.HTTPStatus(code).phrase})"
    return f"HTTP {code}"


def _why_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        # OpenSSL's words: `certificate has expired`, `self-signed certificate`, …
        remedy = "; TARS_GA_CA_BUNDLE names the issuers that are trusted"
        issuer = error.verify_code in (18, 19, 20, 21)
        return f"the server's certificate: {error.verify_message}{remedy if issuer else ''}"
    if "CERTIFICATE_REQUIRED" in (error.reason or ""):
        return "the server asks for a certificate; set TARS_GA_CLIENT_CERT"
    return (error.reason or "the connection was closed during its handshake").lower()


def _why_os(error: OSError) -> str:
    # Where a name has several addresses, their errors come as one text.
    numbers = {error.errno} if error.errno else {*map(int, re.findall(r"Errno (\d+)", str(error)))}
    words = [os.strerror(number).lower() for number in sorted(numbers)]
    return "; ".join(words) or "the connection failed"


def why_closed(error: ConnectionClosed | Protocol) -> str:
    """Say how a session ended, or how it is ending, from its close frames."""
    if isinstance(error, Protocol):
        received, sent, ours = error.close_rcvd, error.close_sent, not error.close_rcvd_then_sent
    else:
        received, sent, ours = error.rcvd, error.sent, not error.rcvd_then_sent
    if sent is not None and ours and sent.code in (1002, 1007, 1009):
        if sent.code == 1009:
            return f"a message of more than {MAX_MESSAGE >> 20} MiB, which the monitor cannot take"
        return (
            f"the server broke the protocol ({sent.code}, {sent.reason or close_name(sent.code)})"
        )
    if received is None:
        return "connection lost without a close frame (1006, abnormal closure)"
    said = re.sub(r"[\x00-\x1f\x7f-\x9f]", "", " ".join(received.reason.split()))
    name = close_name(received.code)
    return f"closed by the server: {received.code} ({name})" + (f": {said}" if said else "")


def close_name(code: int) -> str:
    """Return the name of a close code: 1012 is `service restart`."""
    ranges = {3: "registered", 4: "private use"}
    name = CLOSE_CODE_EXPLANATIONS.get(code, ranges.get(code // 1000, "unknown"))
    return str(name).removesuffix(" [internal]").replace("OK", "normal closure")
