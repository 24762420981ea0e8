"""Ctrl-C ends a command at once, whatever a server does."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT, TARS_GA
from tests.test_transport import HEAD, drip, endless


@pytest.mark.parametrize("command", ["run", "preflight", "watch"])
def test_an_interrupt_is_obeyed_while_a_server_drips(command: str, tmp_path: Path) -> None:
    asked = threading.Event()

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        asked.set()
        drip(HEAD, b"Content-Length: 1000000\r\n\r\n")(connection, stop)

    with endless(answer) as url:
        arguments = [command, "parameters/ga_day.yaml", "--set", f"source.prometheus={url}"]
        if command != "preflight":
            arguments += ["--output", str(tmp_path / "out")]
        with subprocess.Popen(
            [str(TARS_GA), *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                assert asked.wait(120)
                process.send_signal(signal.SIGINT)
                began = time.monotonic()
                said, _ = process.communicate(timeout=30)  # a request alone may take 120 s
                print(f"{command}: ended after {time.monotonic() - began:.1f} s")
            finally:
                process.kill()
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert not list(tmp_path.iterdir()) or command == "watch"
