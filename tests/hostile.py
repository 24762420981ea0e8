"""What an enemy may send, by hypothesis: changed bytes of every kind of file that is read.

Each kind has a good example and what reads it, the real way in. An input is refused if that raises
one of our own errors, which the commands turn into a sentence, and survives if it is read. Anything
else is harm: another error, a connection, a process, a file written elsewhere, a GiB of memory.

    python -m tests.hostile

is the process in which recordings are read: it forks for each folder that it is told, and the child
does what a replay's child does, so that a library that dies takes nobody with it.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import resource
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tars_ga_lib import measured, parameters, prometheus, strict
from tars_ga_lib.evidence import attestation, history, package, tarball, verify
from tars_ga_lib.evidence.replay import GIB
from tars_ga_lib.grammar import ParametersError
from tests.helpers import ROOT, write_run
from tests.packages import packed, seal

Reader = Callable[[bytes], object]

TOKENS = (
    b"\x00", b"\xff\xfe", b"\x1b]0;x\x07", b"\xe2\x80\xae", b"\xef\xbf\xbe", b"NaN", b"1e999",
    b"-0", b"9" * 5000, b"[" * 5000, b"{" * 5000, b'{"a":' * 500, b"null", b"true", b"../" * 9,
    b"\\ud800", b"&a [*a]", b"!!python/object:x", b"\n---\n", b'"', b",", b"]]", b"}", b"1e308",
)  # fmt: skip
"""What is put among the bytes of a file: all of it has broken readers before."""

EXPECTED = (
    ParametersError,
    tarball.ArchiveError,
    prometheus.QueryError,
    prometheus.SourceError,
)
"""Errors that end in a sentence."""


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Return a file with a few of its bytes flipped, exchanged, cut out or repeated."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(changed)))
        span = draw(st.sampled_from((1, 4, 20, 500)))
        kind = draw(st.sampled_from(("flip", "token", "cut", "repeat", "end")))
        if kind == "flip" and at < len(changed):
            changed[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "token":
            changed[at : at + draw(st.sampled_from((0, 1, 20)))] = draw(st.sampled_from(TOKENS))
        elif kind == "cut":
            del changed[at : at + span]
        elif kind == "repeat":
            changed[at:at] = changed[at : at + span]
        elif kind == "end":
            del changed[at:]
    return bytes(changed)


def outcome(read: Reader, content: bytes) -> str:
    """Return whether an input is refused or survives; any other error is harm, and goes on."""
    try:
        read(content)
    except EXPECTED as error:
        text = str(error)
        assert not {"\x1b", "\u202e"} & set(text), f"a terminal would obey: {text!r}"
        return "refused"
    return "survived"


def tried(good: bytes, read: Reader, budget: int) -> dict[str, int]:
    """Try so many changed forms of a file, the same ones each time, and count what became of them.

    Raises
    ------
    Exception
        What harm did; hypothesis says by which bytes.
    """
    counts = {"refused": 0, "survived": 0}

    @settings(
        max_examples=budget, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(mutated(good))
    def harmless(content: bytes) -> None:
        counts[outcome(read, content)] += 1

    harmless()
    return counts


# --- walls ---------------------------------------------------------------------------------------


class _Walls:
    """What may be reached while hostile inputs are read: one folder and one server of ours."""

    folder: ClassVar[Path | None] = None
    port: ClassVar[int] = 0
    escapes: ClassVar[list[str]] = []
    set_up: ClassVar[bool] = False

    @classmethod
    def watch(cls, event: str, arguments: tuple[Any, ...]) -> None:
        """Refuse what leads outside: see `sys.addaudithook`."""
        if cls.folder is None or event not in _WATCHED:
            return
        if event == "open":
            name, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            ours = (str(cls.folder), str(ROOT / ".hypothesis"))  # hypothesis keeps its own notes
            if not writes or isinstance(name, int) or str(name).startswith(ours):
                return
        if event == "socket.connect" and arguments[1] == ("127.0.0.1", cls.port):
            return
        if event == "socket.getaddrinfo" and arguments[0] == "127.0.0.1":
            return
        cls.escapes.append(f"{event} {arguments!r}")
        raise PermissionError(cls.escapes[-1])


_WATCHED = {"open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system"}


@contextlib.contextmanager
def walls(folder: Path, port: int = 0) -> Iterator[None]:
    """Let the block write below a folder only, connect to a port only, and take a GiB at most."""
    if not _Walls.set_up:
        sys.addaudithook(_Walls.watch)  # which cannot be taken away again
        _Walls.set_up = True
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + GIB, hard))
    # A module that is first imported here may leave its bytecode.
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    _Walls.folder, _Walls.port = folder, port
    try:
        yield
    finally:
        _Walls.folder, sys.dont_write_bytecode = None, before
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    assert _Walls.escapes == []


# --- kinds of input ------------------------------------------------------------------------------


def _sound(read: Callable[[bytes], object]) -> Reader:
    """Read what raises a ValueError that its caller turns into a sentence."""

    def reading(content: bytes) -> object:
        try:
            return read(content)
        except ValueError as error:
            raise ParametersError(str(error)) from None

    return reading


def _in_file(file: Path, read: Callable[[Path], object]) -> Reader:
    def reading(content: bytes) -> object:
        file.write_bytes(content)
        return read(file)

    return reading


def _verified(path: Path) -> object:
    found = verify.verify(path)
    if found.failures:
        raise ParametersError(str(found.failures[0]))
    return found


def _compared(file: Path) -> object:
    facts = history.facts(file)
    return history.tables(history.difference(facts, facts))


def kinds(run: Path, scratch: Path) -> dict[str, tuple[bytes, Reader]]:
    """Return, for each kind of input that is read in the process of a command, an example and what
    reads it.

    Parameters
    ----------
    run
        Folder of a finished and packed run.
    scratch
        Empty folder.
    """
    archive = (run / package.ARCHIVE).read_bytes()
    unpacked, job = scratch / "unpacked", scratch / "job"
    for entry in tarball.read(io.BytesIO(archive)):
        target = unpacked / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"".join(entry.chunks()))
    folder = unpacked / package.ROOT
    incidents = (ROOT / "parameters" / "evidence" / "incidents.yaml").read_text("utf-8")
    run_file = write_run(job, evidence={"incidents": "i.yaml"}, texts={"i.yaml": incidents})

    def resealed(file: Path) -> object:
        seal(folder)
        return _verified(folder)

    def yaml_file(name: str) -> tuple[bytes, Reader]:
        good = (job / name).read_bytes()

        def read(content: bytes) -> object:
            (job / name).write_bytes(content)
            try:
                return parameters.load(run_file)
            finally:
                (job / name).write_bytes(good)

        return good, read

    def whole(file: Path, read: Callable[[Path], object]) -> tuple[bytes, Reader]:
        return file.read_bytes(), _in_file(scratch / file.name, read)

    read_archive = _in_file(scratch / "p.tar.gz", _verified)
    facts = scratch / "facts.json"
    facts.write_text(json.dumps(history.facts(run)), "utf-8")
    results = ROOT / "demo" / "measured"
    key = b'{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"' + b"a" * 64 + b'"}}'
    certification = folder / package.CERTIFICATION
    return {
        "archive": (archive, read_archive),
        "tar": (gzip.decompress(archive), lambda c: read_archive(packed(c))),
        "certification": (certification.read_bytes(), _in_file(certification, resealed)),
        "attestation": ((folder / package.ATTESTATION).read_bytes(), _sound(attestation.read)),
        "facts of a release": whole(facts, _compared),
        "validation results": whole(
            results / "validation_results.json", lambda f: measured.read(f, "validation")
        ),
        "WebSocket results": whole(
            results / "ws_health_metrics.json", lambda f: measured.read(f, "websocket")
        ),
        "JSON": ((run / "drift_analysis.json").read_bytes(), _sound(strict.loads)),
        "run's YAML": yaml_file("run.yaml"),
        "criteria YAML": yaml_file("criteria.yaml"),
        "evidence YAML": yaml_file("i.yaml"),
        "public key": (key, _in_file(scratch / "key.pub", attestation.load_key)),
    }  # fmt: skip


# --- a server ------------------------------------------------------------------------------------

START, STEP = 1_795_132_800, 300


def answer() -> bytes:
    """Return the answer of a good server to a query of three steps."""
    series = [
        {"metric": {"region": name}, "values": [[START + STEP * i, str(i)] for i in range(1, 4)]}
        for name in ("east", "west")
    ]
    data = {"resultType": "matrix", "result": series}
    return json.dumps({"status": "success", "data": data}, separators=(",", ":")).encode()


@contextlib.contextmanager
def served() -> Iterator[tuple[int, Reader]]:
    """Give a server's port, and what has it send an answer and asks for it."""
    held = {"content": b""}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(held["content"])))
            self.end_headers()
            self.wfile.write(held["content"])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.block_on_close = False  # a connection may be kept open
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        with prometheus.Prometheus(f"http://127.0.0.1:{port}", attempts=1, timeout=60) as source:

            def read(content: bytes) -> object:
                held["content"] = content
                found = source.range("up", START, START + 3 * STEP, STEP)
                assert found.values.shape[1] == 3
                return found

            yield port, read
        server.shutdown()


# --- recordings, in a child ----------------------------------------------------------------------


@contextlib.contextmanager
def recordings(folder: Path) -> Iterator[Callable[[str], Reader]]:
    """Give what makes readers of the files of a run's recording, by name."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.hostile"]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def reader(name: str) -> Reader:
            def read(content: bytes) -> object:
                (folder / "recording" / name).write_bytes(content)
                stdin.write(f"{folder}\n")
                stdin.flush()
                found = json.loads(stdout.readline())
                assert found["bytes"] < GIB
                if found["problem"]:
                    raise ParametersError(": ".join(found["problem"]))
                return found

            return read

        yield reader
        stdin.close()


def _fork() -> None:
    """Read folders from the standard input, and say what became of a child that loads each."""
    from tars_ga_lib import recompute

    warnings.simplefilter("ignore")
    for line in sys.stdin:
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            os.dup2(theirs, 1)
            recompute.main(["load", line.strip(), str(GIB), "1e-9"])
            sys.stdout.flush()
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours, "rb") as stream:
            said = stream.read()
        _, status, usage = os.wait4(child, 0)
        # A child that died is a recording that cannot be replayed: see `evidence.replay`.
        problem = json.loads(said)["problem"] if not status else ["recording", f"died: {status}"]
        print(json.dumps({"problem": problem, "bytes": usage.ru_maxrss * 1024}), flush=True)


if __name__ == "__main__":
    _fork()
