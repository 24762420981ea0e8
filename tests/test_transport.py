"""Requests end: in time, in bytes, and when they are told to."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import tenacity

from tars_ga_lib import transport
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.prometheus import Prometheus, QueryError, SourceError
from tests import servers

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
START, STOP, STEP = 1_795_132_800, 1_795_133_700, 300


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenacity, "wait_random_exponential", lambda **_: lambda _state: 0.01)


@contextmanager
def endless(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """Serve each connection with a function that writes until it is told to stop."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def one(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(1 << 16)
                    answer(connection, stop)
                except OSError:
                    return

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)


def drip(*head: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Send what is given, and then a byte now and then, so that no socket's time limit ends it."""

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b"".join(head))
        while not stop.wait(0.05):
            connection.sendall(b" ")

    return answer


def flood(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(HEAD + b"Connection: close\r\n\r\n[")
    while not stop.is_set():
        connection.sendall(b" " * (1 << 16))


SLOW = {
    "body": drip(HEAD, b"Content-Length: 1000000\r\n\r\n"),
    "chunk": drip(HEAD, b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n"),
    "no length": drip(HEAD, b"\r\n"),
    "head": drip(b"HTTP/1.1 200 OK\r\nX-Slow: "),
    "status": drip(b"HTTP/1.1 "),
    "silence": lambda connection, stop: stop.wait(60) and None,
}


def client(url: str, **options: Any) -> Prometheus:
    defaults: dict[str, Any] = {"environ": {}, "timeout": 0.5, "attempts": 1}
    return Prometheus(url, **defaults | options)


@pytest.mark.parametrize("kind", SLOW)
def test_a_request_ends_in_its_time(kind: str) -> None:
    with endless(SLOW[kind]) as url, client(url) as api, pytest.raises(QueryError) as caught:
        api.range("up", START, STOP, STEP)
    assert "no answer in time; raise source.timeout" in str(caught.value)


@pytest.mark.parametrize("kind", SLOW)
def test_the_whole_ends_in_its_time(kind: str) -> None:
    with (
        endless(SLOW[kind]) as url,
        client(url, timeout=60, deadline=0.5, attempts=4) as api,
        pytest.raises(SourceError, match=r"within 0 s.*raise source\.deadline"),
    ):
        api.range("up", START, STOP, STEP)


@pytest.mark.parametrize("kind", [*SLOW, "busy"])
def test_another_thread_can_end_it(kind: str) -> None:
    busy = HEAD.replace(b"200 OK", b"503 Busy") + b"Retry-After: 30\r\nContent-Length: 0\r\n\r\n"
    answer = SLOW.get(kind) or (lambda connection, stop: connection.sendall(busy) or stop.wait(60))
    caught: list[BaseException] = []
    with endless(answer) as url, client(url, timeout=60, attempts=4) as api:

        def ask() -> None:
            try:
                api.range("up", START, STOP, STEP)
            except SourceError as error:
                caught.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        time.sleep(0.3)
        api.end("enough")
        thread.join(20)
        assert not thread.is_alive()
        assert "enough" in str(caught[0])
        with pytest.raises(SourceError, match="enough"):
            api.now()


def test_a_body_without_end_is_refused() -> None:
    with endless(flood) as url, client(url, timeout=60) as api:
        with pytest.raises(QueryError, match="larger than 32 MiB, far more"):
            api.range("up", START, STOP, STEP)
        with pytest.raises(QueryError, match="larger than 32 MiB"):
            api.now()


def test_an_answer_that_unpacks_without_end_is_refused() -> None:
    packed = gzip.compress(b" " * (1 << 28), 9)  # 256 MiB in 260 KB

    def bomb(connection: socket.socket, stop: threading.Event) -> None:
        head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        connection.sendall(head + packed)

    with (
        endless(bomb) as url,
        client(url, timeout=60) as api,
        pytest.raises(QueryError, match="larger than 32 MiB"),
    ):
        api.range("up", START, STOP, STEP)


def test_the_limit_grows_with_what_was_asked_for() -> None:
    """A large answer to a large question is no attack."""
    steps, count = 2000, 500
    row = ",".join(f'[{START + 1 + i},"0.12345678901234567"]' for i in range(steps))
    series = (f'{{"metric":{{"n":"{n}"}},"values":[{row}]}}' for n in range(count))
    body = f'{{"status":"success","data":{{"resultType":"matrix","result":[{",".join(series)}]}}}}'
    assert len(body) > transport.FLOOR
    with servers.faulty(None, body.encode()) as server:
        with client(server.url, timeout=60, series=count) as api:
            assert api.range("up", START, START + steps, 1).values.shape == (count, steps)
        with (
            client(server.url, timeout=60, series=1) as api,
            pytest.raises(QueryError, match="MiB"),
        ):
            api.range("up", START, START + steps, 1)


def test_many_empty_series_take_no_memory() -> None:
    series = ",".join(f'{{"metric":{{"n":"{n}"}},"values":[]}}' for n in range(200_000))
    body = f'{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}'
    with (
        servers.faulty(None, body.encode()) as server,
        client(server.url, timeout=60) as api,
        pytest.raises(QueryError, match="200,000 series, far more"),
    ):
        api.range("up", START, START + 900, 1)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_keeps_the_form_and_the_server(status: int) -> None:
    answer = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'
    asked: list[bytes] = []

    def redirect(to: bytes) -> Callable[[socket.socket, threading.Event], None]:
        def serve(connection: socket.socket, stop: threading.Event) -> None:
            said = b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n" % (status, to)
            connection.sendall(said + b"Connection: close\r\n\r\n")

        return serve

    def here(connection: socket.socket, stop: threading.Event) -> None:
        asked.append(b"")
        if len(asked) == 1:
            redirect(b"/prometheus/api/v1/query_range")(connection, stop)
        else:
            head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(answer)
            connection.sendall(head + answer)

    with endless(here) as url, client(url, timeout=5) as api:
        assert api.range("up", START, STOP, STEP).labels == []
    assert len(asked) == 2
    with (
        endless(redirect(b"http://user:hunter2@192.0.2.1/")) as url,
        client(url, timeout=5) as api,
        pytest.raises(SourceError, match=r"redirects to http://192\.0\.2\.1, where our") as caught,
    ):
        api.range("up", START, STOP, STEP)
    assert "hunter2" not in str(caught.value)
    with (
        endless(redirect(b"/again")) as url,
        client(url, timeout=5) as api,
        pytest.raises(QueryError, match=f"HTTP {status}"),
    ):
        api.range("up", START, STOP, STEP)


@pytest.mark.parametrize("token", ["hunter€", "hunter\n2", "hunter\u200b"])
def test_a_token_that_no_header_holds(token: str) -> None:
    said = "TARS_GA_BEARER_TOKEN: holds a character"
    with pytest.raises(ParametersError, match=said) as caught:
        client("http://127.0.0.1:9", environ={"TARS_GA_BEARER_TOKEN": token})
    assert "hunter" not in str(caught.value)
    with pytest.raises(ParametersError, match=r"source\.org_id"):
        client("http://127.0.0.1:9", org_id=token)


def test_a_password_may_hold_any_character() -> None:
    body = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'
    whole = {"TARS_GA_USERNAME": "josé", "TARS_GA_PASSWORD": "h€nter2"}
    with servers.faulty(None, body) as server, client(server.url, environ=whole) as api:
        api.range("up", START, STOP, STEP)
    assert server.headers[0]["Authorization"] == "Basic am9zw6k6aOKCrG50ZXIy"


def test_the_path_of_a_url_is_not_shown() -> None:
    with client("https://prom.example:9090/s3cret/prom") as api:
        assert api.url == "https://prom.example:9090/…"
        assert api._base == "https://prom.example:9090/s3cret/prom"
    assert transport.shown("http://127.0.0.1:9090") == "http://127.0.0.1:9090"
