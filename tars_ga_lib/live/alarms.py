"""Who must hear of what, while a window is watched: from a snapshot to the events that it tells.

An event is told once, however often it is seen: its key names what happened, and a channel's
receipts know the keys that were delivered, also by a process that was killed since. A channel that
is slow delays no step: messages go out from a thread of their own.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tars_ga_lib.channels import Channels, EventKind
from tars_ga_lib.live import apart, notify
from tars_ga_lib.live.folder import LOGGER
from tars_ga_lib.live.notify import Event
from tars_ga_lib.parameters import Parameters

log = logging.getLogger(LOGGER)


def events(parameters: Parameters, snapshot: dict[str, Any], silent: str | None) -> list[Event]:
    """Return what a snapshot tells.

    Parameters
    ----------
    silent
        Since when the source did not answer as of the snapshot before; None if it did.
    """
    return [*_source(parameters, snapshot, silent), *_outlook(parameters, snapshot)]


def _source(
    parameters: Parameters, snapshot: dict[str, Any], silent: str | None
) -> Iterator[Event]:
    source = snapshot["source"]
    since = source["silent_since"]
    if since:
        what = ("the monitor gets no data", f"The source does not answer since {since}.")
        yield _event(parameters, "data_lost", "error", *what, snapshot, "silent", since)
    elif silent:
        text = f"The source answers again; it did not since {silent}. What is missing is collected."
        what = ("the monitor gets data again", text)
        yield _event(parameters, "data_lost", "info", *what, snapshot, "back", silent)


def _outlook(parameters: Parameters, snapshot: dict[str, Any]) -> Iterator[Event]:
    seen = snapshot["outlook"]
    if not seen:
        return
    for finding in seen["drift"]["worst"]:
        # A look at every step finds something in the end: what is told must be sure.
        sure = finding["measure"] == "exact" or finding["id"] in seen["drift"]["first_alarms"]
        if finding["verdict"] == "fail" and sure:
            text = f"{finding['name']} is beyond its critical limit."
            what = ("critical drift", text)
            yield _event(parameters, "critical_finding", "error", *what, snapshot, finding["id"])
    for name in (seen["slo"] or {}).get("exhausted", []):
        text = f"The error budget of {name} for the whole window is used up."
        what = ("an error budget is used up", text)
        yield _event(parameters, "budget_exhausted", "error", *what, snapshot, name)


def _event(
    parameters: Parameters,
    kind: EventKind,
    severity: notify.Severity,
    title: str,
    text: str,
    snapshot: dict[str, Any],
    *key: str,
) -> Event:
    release = f"{parameters.release.name} {parameters.release.version}"
    parts = "\0".join((kind, release, str(parameters.window.start), *key))
    return Event(
        kind=kind,
        severity=severity,
        title=f"{release}: {title}",
        text=text,
        key=f"{kind}-{hashlib.sha256(parts.encode()).hexdigest()[:24]}",
        time=snapshot["step_end"],
        release=release,
        facts=(("Step", f"{snapshot['step']} of {snapshot['steps']}"),),
        links=tuple(notify.pipeline_links()),
        simulated=parameters.simulated,
    )


class Teller:
    """Tells the channels what snapshots say, in a thread of its own.

    Parameters
    ----------
    receipts
        File of `notify.tell`.
    """

    def __init__(self, channels: Channels, parameters: Parameters, receipts: Path) -> None:
        self._channels, self._parameters, self._receipts = channels, parameters, receipts
        self._silent: str | None = None
        self._known: set[str] = set()
        self._waiting: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._open = 0
        threading.Thread(target=self._run, daemon=True).start()

    def hear(self, snapshot: dict[str, Any]) -> None:
        """Take a snapshot; what it tells that was not told goes out."""
        for event in events(self._parameters, snapshot, self._silent):
            if event.key not in self._known:
                self._known.add(event.key)
                self._open += 1
                self._waiting.put(event)
        self._silent = snapshot["source"]["silent_since"]

    def finish(self, seconds: float) -> None:
        """Wait until all is told, but not longer."""
        deadline = time.monotonic() + seconds
        while self._open and time.monotonic() < deadline:
            time.sleep(0.05)

    def _run(self) -> None:
        while True:
            event = self._waiting.get()
            try:
                # Some services' libraries are larger than all of the watch.
                what = self._channels, event, self._receipts
                for one in apart.call(_tell, what, lambda: False):
                    log.info("%s: %s %s %s", one.channel, one.event, one.status, one.reason)
            except Exception as error:
                log.error("%s was not told: %s", event.kind, error)
            finally:
                self._open -= 1


def _tell(what: tuple[Channels, Event, Path]) -> list[notify.Receipt]:
    return notify.tell(*what)
