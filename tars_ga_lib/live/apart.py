"""A function in a process of its own, so that the memory that it takes is given back.

It and its argument go there by pickle, and so does what it returns: both ends are our own.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from tars_ga_lib.grammar import ParametersError

A = TypeVar("A")
R = TypeVar("R")

PATIENCE = 300.0
"""Seconds that it may take; the analysis of a day takes about one."""


class ApartError(Exception):
    """The process failed, or took too long; the text says how."""


class StoppedError(Exception):
    """The caller wanted to end before the process did."""


def call(function: Callable[[A], R], argument: A, stopped: Callable[[], bool]) -> R:
    """Call a module's function in a process of its own.

    Raises
    ------
    ParametersError, OSError
        As the function does.
    ApartError
        If it fails otherwise.
    StoppedError
        As soon as `stopped` says so.
    """
    # A terminal's Ctrl-C is meant for the caller: hence a session of its own.
    process = subprocess.Popen(
        [sys.executable, "-c", "from tars_ga_lib.live import apart; apart.answer()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    said: list[tuple[bytes, bytes]] = []
    thread = threading.Thread(target=_converse, args=(process, function, argument, said))
    thread.daemon = True
    thread.start()
    waited = 0.0
    while thread.is_alive() and waited < PATIENCE and not stopped():
        thread.join(0.05)
        waited += 0.05
    if thread.is_alive():
        process.kill()
        thread.join(5)
        if stopped():
            raise StoppedError
        raise ApartError(f"{function.__name__} took longer than {PATIENCE:.0f} s")
    ((out, err),) = said
    try:
        answered, found = pickle.loads(out)
    except (pickle.UnpicklingError, EOFError):
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no answer"]
        raise ApartError(f"{function.__name__} failed ({last[0]})") from None
    if not answered:
        raise found
    result: R = found
    return result


def _converse(
    process: subprocess.Popen[bytes], function: Any, argument: Any, said: list[tuple[bytes, bytes]]
) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError), process.stdin as pipe:  # if it dies, its last words tell
        # Written piece by piece: large arrays are not copied before.
        pickle.dump((function, argument), pipe, protocol=5)
    process.stdin = None
    said.append(process.communicate())


def answer() -> None:
    """Call what standard input says, and write what it returns to standard output."""
    function, argument = pickle.load(sys.stdin.buffer)
    try:
        found = True, function(argument)
    except (ParametersError, OSError) as error:
        found = False, error
    pickle.dump(found, sys.stdout.buffer, protocol=5)
