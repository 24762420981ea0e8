"""HTTP requests that end: each within its time and its bytes, and all at once when they must.

A server may send one byte a second, or a small answer that unpacks to all of the memory. The time
limits of sockets do not help, as each byte starts them anew; so a timer cuts the connection itself,
which wakes whoever reads from it. The body is counted as it is unpacked.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from tars_ga_lib.grammar import ParametersError

FLOOR = 32 << 20
"""Bytes that any answer may have, unpacked."""

BUSY = (429, 502, 503, 504)
"""Status of an answer that another try may better."""

_MOST_WAIT = 30.0
_PIECE = 1 << 16
_REDIRECTS = (301, 302, 307, 308)
_MOST_REDIRECTS = 3


class EndedError(Exception):
    """The session was ended, so nothing is asked any more; the text says why."""


class TooLargeError(Exception):
    """An answer has more bytes than any that was asked for."""


class MovedError(Exception):
    """The server sends us to another one; the text names it."""


class _Exchange:
    """A request under way: an end of its connection, and whether it was cut."""

    def __init__(self) -> None:
        self.cut = False
        self._end: socket.socket | None = None

    def served_by(self, connected: socket.socket) -> None:
        """Take a connection's socket: a duplicate, as the client may close or wrap its own."""
        self.close()
        self._end = socket.socket(fileno=os.dup(connected.fileno()))
        if self.cut:
            self.end()

    def end(self) -> None:
        """Cut the connection: whoever reads from it wakes up."""
        self.cut = True
        with contextlib.suppress(OSError):
            if (end := self._end) is not None:
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection."""
        if self._end is not None:
            self._end.close()


class _Current(threading.local):
    exchange: _Exchange | None = None


_current = _Current()


class _Cuttable:
    """A connection that tells its socket to the exchange that it serves."""

    sock: socket.socket | None

    def _new_conn(self) -> socket.socket:
        made: socket.socket = super()._new_conn()  # type: ignore[misc]
        if exchange := _current.exchange:
            exchange.served_by(made)
        return made

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None and (exchange := _current.exchange):
            exchange.served_by(self.sock)
        super().request(*args, **kwargs)  # type: ignore[misc]


class _Http(_Cuttable, HTTPConnection):
    pass


class _Https(_Cuttable, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


class Adapter(HTTPAdapter):
    """An adapter whose connections can be cut."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}


class Session(requests.Session):
    """A session whose requests end.

    Its credentials come from `environ` and go to one server only: a redirection to another is
    refused, and one on the same server keeps the method and the form.

    Parameters
    ----------
    url
        The server's base URL.
    seconds
        How long one request may take, its answer included.

    Raises
    ------
    ParametersError
        If a credential cannot stand in a header.
    """

    def __init__(self, url: str, environ: Mapping[str, str], seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._running: set[_Exchange] = set()
        self._lock = threading.RLock()  # a signal's handler may end what its own thread asks
        self._ended = ""
        self._limit = threading.local()
        self.ended = threading.Event()
        self.trust_env = False  # no .netrc, no proxy: what is sent where is what we say
        if token := environ.get("TARS_GA_BEARER_TOKEN"):
            self.headers["Authorization"] = f"Bearer {header_text(token, 'TARS_GA_BEARER_TOKEN')}"
        elif user := environ.get("TARS_GA_USERNAME"):
            # As bytes (RFC 7617), since requests knows Latin-1 only.
            self.auth = HTTPBasicAuth(user.encode(), environ.get("TARS_GA_PASSWORD", "").encode())
        if certificate := environ.get("TARS_GA_CLIENT_CERT"):
            key = environ.get("TARS_GA_CLIENT_KEY")
            self.cert = (certificate, key) if key else certificate
        self.verify = environ.get("TARS_GA_CA_BUNDLE") or True
        if _is_local(urlsplit(url).hostname or ""):
            # On a local network compressing costs the server far more than the bytes do.
            self.headers["Accept-Encoding"] = "identity"

    def end(self, why: str) -> None:
        """Cut all requests that are under way, and send none any more."""
        with self._lock:
            self._ended = self._ended or why
            self.ended.set()
            for exchange in list(self._running):
                exchange.end()

    @contextlib.contextmanager
    def limited(self, size: int) -> Iterator[None]:
        """Let the answers of this thread have so many bytes meanwhile."""
        self._limit.size = size
        try:
            yield
        finally:
            self._limit.size = FLOOR

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> Any:
        """Send a request and read its whole answer.

        Raises
        ------
        requests.Timeout
            If it takes longer than it may.
        EndedError, MovedError, TooLargeError
            As they say.
        """
        kwargs |= {"stream": True, "allow_redirects": False}
        exchange = _current.exchange = _Exchange()
        timer = threading.Timer(self._seconds, exchange.end)
        timer.daemon = True
        with self._lock:
            if self._ended:
                raise EndedError(self._ended)
            self._running.add(exchange)
        timer.start()
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                response = super().request(method, url, *args, **kwargs)
                self._read(response)
                if response.status_code not in _REDIRECTS or "Location" not in response.headers:
                    break
                url = _same_server(str(url), response.headers["Location"])
        except (requests.RequestException, OSError):
            if not exchange.cut:
                raise
        finally:
            timer.cancel()
            with self._lock:
                self._running.discard(exchange)
            exchange.close()
            _current.exchange = None
        if self._ended:
            raise EndedError(self._ended)
        if exchange.cut:
            raise requests.Timeout
        return response

    def _read(self, response: requests.Response) -> None:
        limit, size = getattr(self._limit, "size", FLOOR), 0
        pieces = []
        for piece in response.iter_content(_PIECE):
            size += len(piece)
            if size > limit:
                response.close()
                raise TooLargeError(
                    f"the answer is larger than {limit / 2**20:,.0f} MiB, far more than what was "
                    "asked for has"
                )
            pieces.append(piece)
        response._content = b"".join(pieces)


def header_text(value: str, name: str) -> str:
    """Return what may stand in a header of HTTP.

    Raises
    ------
    ParametersError
        If it may not.
    """
    if not value.isascii() or not value.isprintable():
        raise ParametersError(
            f"{name}: holds a character that no HTTP header can hold; see that it was copied whole "
            "and without a line end"
        )
    return value


def retry_after(response: requests.Response, most: float = _MOST_WAIT) -> float:
    """Seconds that a server asks to wait, a number or a date (RFC 9110, 10.2.3), and at most."""
    said = response.headers.get("Retry-After", "")
    try:
        asked = (
            float(said[:6]) if said.isdigit() else parsedate_to_datetime(said).timestamp() - time()
        )
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(asked, 0.0), most)


def shown(url: str) -> str:
    """Return what of a URL may stand in a file: its path may hold a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" + ("/…" if parts.path else "")


def _same_server(url: str, location: str) -> str:
    there = urljoin(url, location)
    old, new = urlsplit(url), urlsplit(there)
    if (new.scheme, new.netloc) != (old.scheme, old.netloc):
        raise MovedError(f"it redirects to {new.scheme}://{new.netloc.rpartition('@')[2]}")
    return there


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"
