"""Real WebSocket servers on loopback, good ones and bad, in a thread with a loop of its own.

Those that must break the protocol are written on bare TCP: the library would not let them.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.utils import accept_key

T = TypeVar("T")
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HOST = "127.0.0.1"


@dataclass
class Hosting:
    """A loop in a thread that servers run on; `call` runs a coroutine there."""

    loop: asyncio.AbstractEventLoop
    stack: contextlib.AsyncExitStack
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def raw(self, talk: Talk, tls: ssl.SSLContext | None = None) -> str:
        """Serve bare TCP; return the URL."""
        return self.call(self._raw(talk, tls))

    async def _raw(self, talk: Talk, tls: ssl.SSLContext | None) -> str:
        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await talk(reader, writer)
            writer.transport.abort()

        server = await asyncio.start_server(guarded, HOST, 0, ssl=tls)
        self.stack.callback(server.close)
        return f"{'wss' if tls else 'ws'}://{HOST}:{server.sockets[0].getsockname()[1]}/ws"

    def good(self, tls: ssl.SSLContext | None = None, **options: Any) -> str:
        """Serve as one should, by the library; `handler` and others may be given."""
        return self.call(self._good(tls, options))

    async def _good(self, tls: ssl.SSLContext | None, options: dict[str, Any]) -> str:
        handler = options.pop("handler", hold)
        server = await self.stack.enter_async_context(
            serve(handler, HOST, options.pop("port", 0), ssl=tls, close_timeout=0.2, **options)
        )
        return f"{'wss' if tls else 'ws'}://{HOST}:{_port(server)}/ws"

    def outages(self, plan: Sequence[float], code: int = 1012) -> Outages:
        """Serve, but go away at each even place of the plan (seconds from the first session)."""
        return self.call(self._outages(plan, code))

    async def _outages(self, plan: Sequence[float], code: int) -> Outages:
        outages = Outages(list(plan), code)
        await outages.start()
        self.tasks.append(asyncio.create_task(outages.run()))
        return outages

    def frozen(self, start: float, length: float) -> Frozen:
        """Serve bare TCP, but stop answering for a while, as a stopped process does."""
        frozen = Frozen(start, length)
        frozen.url = self.raw(frozen.talk)
        return frozen


@contextlib.contextmanager
def hosting() -> Iterator[Hosting]:
    """Run a loop for servers in a thread, and stop all of them at the end."""
    ready: list[Hosting] = []
    up, stop = threading.Event(), threading.Event()

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            hosts = Hosting(asyncio.get_running_loop(), stack)
            ready.append(hosts)
            up.set()
            while not stop.is_set():
                await asyncio.sleep(0.02)
            for task in hosts.tasks:
                task.cancel()
            await asyncio.gather(*hosts.tasks, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    up.wait()
    try:
        yield ready[0]
    finally:
        stop.set()
        thread.join()


def _port(server: Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


# --- servers that speak by the library -----------------------------------------------------------


async def hold(connection: ServerConnection) -> None:
    """Hold a session open, and read what comes."""
    with contextlib.suppress(ConnectionClosed):
        async for _ in connection:
            pass


def flood(size: int) -> Callable[[ServerConnection], Awaitable[None]]:
    """Return a handler that sends messages as fast as they are taken."""

    async def handler(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(b"x" * size)
                await asyncio.sleep(0)

    return handler


async def huge(connection: ServerConnection) -> None:
    """Send a message that is larger than the monitor takes, after a while."""
    await asyncio.sleep(0.2)
    with contextlib.suppress(ConnectionClosed):
        await connection.send(b"x" * (17 << 20))


def closing(code: int, reason: str = "", after: float = 0.2) -> Any:
    """Return a handler that closes each session after a while, with a code."""

    async def handler(connection: ServerConnection) -> None:
        await asyncio.sleep(after)
        await connection.close(code, reason)

    return handler


def requiring(header: str, value: str, *, after: float = 0.2) -> dict[str, Any]:
    """Return options of a server that lets nobody in without a header, and repeats it."""

    def process(connection: ServerConnection, request: Request) -> Response | None:
        if request.headers.get(header) == value:
            return None
        return connection.respond(401, f"you sent {request.headers.get(header)}")

    async def handler(connection: ServerConnection) -> None:
        await asyncio.sleep(after)
        assert connection.request is not None
        await connection.close(4001, f"your token was {connection.request.headers.get(header)}")

    return {"process_request": process, "handler": handler}


def answering(status: int, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Return options of a server that answers each handshake with a status."""

    def process(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(status, "no\n")
        for name, value in (headers or {}).items():
            response.headers[name] = value
        return response

    return {"process_request": process}


@dataclass
class Outages:
    """A server that is restarted: `downs` holds when it was away, on the monotonic clock."""

    plan: list[float]
    code: int
    url: str = ""
    downs: list[tuple[float, float]] = field(default_factory=list)
    server: Server | None = None
    port: int = 0
    met: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        self.server = await serve(self._hold, HOST, self.port, close_timeout=0.05)
        self.port = _port(self.server)
        self.url = f"ws://{HOST}:{self.port}/ws"

    async def _hold(self, connection: ServerConnection) -> None:
        self.met.set()
        await hold(connection)

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close(code=self.code) if self.code else self._abort()
        await self.server.wait_closed()

    def _abort(self) -> None:
        assert self.server is not None
        for connection in self.server.connections:
            connection.transport.abort()
        self.server.close()

    async def run(self) -> None:
        try:
            await self.met.wait()
            began = time.monotonic()
            for off, on in zip(self.plan[::2], self.plan[1::2], strict=True):
                await asyncio.sleep(began + off - time.monotonic())
                away = time.monotonic()
                await self.stop()
                await asyncio.sleep(began + on - time.monotonic())
                await self.start()
                self.downs.append((away, time.monotonic()))
            await asyncio.sleep(3600)
        finally:
            if self.server is not None:
                self.server.close()


# --- servers on bare TCP ------------------------------------------------------------------------


async def shake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do the server's part of the opening handshake."""
    request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    key = next(
        line.partition(":")[2].strip()
        for line in request.split("\r\n")
        if line.lower().startswith("sec-websocket-key")
    )
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
    )


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Read a client's short frames: opcode and unmasked payload."""
    while True:
        first, second = await reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
        mask = await reader.readexactly(4)
        data = await reader.readexactly(length)
        yield first & 0x0F, bytes(b ^ mask[i % 4] for i, b in enumerate(data))


def frame(opcode: int, data: bytes) -> bytes:
    """Write a server's short frame."""
    return bytes([0x80 | opcode, len(data)]) + data


PING, PONG, CLOSE, TEXT = 9, 10, 8, 1


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Shake hands and never say anything again."""
    await shake(reader, writer)
    await reader.read()


async def dropping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept the connection and drop it."""


async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept the connection, and neither read nor answer."""
    await asyncio.sleep(3600)


async def not_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the handshake with what is not HTTP."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x00\xffgarbage\r\n\r\n" * 9)
    await writer.drain()
    await asyncio.sleep(0.2)


def slow(seconds: float, *, handshake: float = 0.0) -> Talk:
    """Return what answers each ping late, and shakes hands late."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(handshake)
        await shake(reader, writer)
        async for opcode, data in frames(reader):
            if opcode == PING:
                await asyncio.sleep(seconds)
                writer.write(frame(PONG, data))
            if opcode == CLOSE:
                writer.write(frame(CLOSE, data))
                return

    return talk


def garbage(after: float = 0.2) -> Talk:
    """Return what answers pings for a while and then sends what is no frame."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await shake(reader, writer)
        until = time.monotonic() + after
        async for opcode, data in frames(reader):
            if opcode == PING:
                writer.write(frame(PONG, data))
            if time.monotonic() > until:
                writer.write(b"\xff\xff\xff\xff" * 8)
                return

    return talk


def cutting(after: float = 0.2) -> Talk:
    """Return what answers pings for a while and then is gone without a close frame (1006)."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await shake(reader, writer)
        until = time.monotonic() + after
        async for opcode, data in frames(reader):
            if opcode == PING:
                if time.monotonic() > until:
                    return
                writer.write(frame(PONG, data))

    return talk


async def lingering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer pings, but neither answer a close frame nor close the connection."""
    await shake(reader, writer)
    async for opcode, data in frames(reader):
        if opcode == PING:
            writer.write(frame(PONG, data))


async def half_closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a close frame soon, and leave the connection open for ever."""
    await shake(reader, writer)
    until = time.monotonic() + 0.2
    said = False
    async for opcode, data in frames(reader):
        if opcode == PING and not said:
            writer.write(frame(PONG, data))
        if not said and time.monotonic() > until:
            writer.write(frame(CLOSE, struct.pack("!H", 1001)))
            said = True


@dataclass
class Frozen:
    """A server that does nothing from `start` on for a while; it answers the rest afterwards."""

    start: float
    length: float
    url: str = ""
    began: float | None = None

    @property
    def downs(self) -> list[tuple[float, float]]:
        assert self.began is not None
        return [(self.began + self.start, self.began + self.start + self.length)]

    async def _thaw(self) -> None:
        assert self.began is not None
        ((off, on),) = self.downs
        if off <= time.monotonic() < on:
            await asyncio.sleep(on - time.monotonic())

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.began is None:
            self.began = time.monotonic()
        await self._thaw()
        await shake(reader, writer)
        async for opcode, data in frames(reader):
            await self._thaw()
            if opcode in (PING, CLOSE):
                writer.write(frame(PONG if opcode == PING else CLOSE, data))
            if opcode == CLOSE:
                return


# --- certificates -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authority:
    """A certificate authority of our own; `bundle` is its certificate's file."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, folder: Path) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("T.A.R.S. test authority")
        certificate = _certificate(name, key.public_key(), name, key, authority=True)
        authority = cls(folder, key, certificate)
        authority.bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return authority

    @property
    def bundle(self) -> Path:
        return self.folder / "authority.pem"

    def issue(
        self,
        name: str,
        *,
        address: str = HOST,
        days: tuple[int, int] = (-1, 1),
        self_signed: bool = False,
        client: bool = False,
    ) -> Path:
        """Write a certificate with its key into one file, valid from and to so many days on."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer, signer = (_name(name), key) if self_signed else (_name("T.A.R.S. test authority"),
                                                                self.key)  # fmt: skip
        certificate = _certificate(
            _name(name), key.public_key(), issuer, signer, address=address, days=days, client=client
        )
        file = self.folder / f"{name.replace(' ', '_')}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file

    def serving(self, name: str, *, clients: bool = False, **options: Any) -> ssl.SSLContext:
        """Return a server's TLS context with a new certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.issue(name, **options))
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.bundle)
        return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    *,
    address: str = HOST,
    days: tuple[int, int] = (-1, 1),
    authority: bool = False,
    client: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if not authority and not client:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())
