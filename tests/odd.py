"""Days on which clocks change, and names that need quoting: a small history with a plain truth.

Every service answers one request a second, and ten a second in the hour from 01:00 UTC, which is
the hour of the change in Europe. If any part of the way took local time for UTC, the busy hour
would stand elsewhere.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SCRAPE, HOUR = 60, 3600
REGIONS = ("eu-central-1", "us-east-1")
SERVICES = ("api", 'we"b\n\\☃ {a=~".*"} | *b* _c_ $x$ #1 <b>&amp;')
WINDOWS = {"europe": "2026-03-28T12:00:00Z", "america": "2026-10-31T12:00:00Z"}
BASELINES = {"europe": "2026-03-21T12:00:00Z", "america": "2026-10-24T12:00:00Z"}
ZONES = {"europe": "Europe/Berlin", "america": "America/New_York"}
BUSY = 1  # the hour, in UTC, of the busy time

KPIS: dict[str, dict[str, Any]] = {
    "availability": {
        "kind": "ratio",
        "unit": "ratio",
        "better": "higher",
        "by": ["region", "service"],
        "numerator": "sum by ($by) (sum_over_time(up{$match}[$step]))",
        "denominator": "sum by ($by) (count_over_time(up{$match}[$step]))",
    },
    "requests": {
        "kind": "counter",
        "unit": "requests",
        "better": "either",
        "by": ["region", "service"],
        "increase": "sum by ($by) (increase(requests_total{$match}[$step]))",
    },
}


def run(when: str, url: str) -> dict[str, Any]:
    """Return the keys of a run's file over one of the changes."""
    return {
        "window": {"start": WINDOWS[when], "duration": "24h", "step": "5m"},
        "baseline": {"start": BASELINES[when], "duration": "24h"},
        "source": {"prometheus": url},
        "regions": list(REGIONS),
        "primary_region": REGIONS[0],
        "services": list(SERVICES),
    }


def write(folder: Path) -> list[Path]:
    """Write a file of OpenMetrics a day."""
    days = [*WINDOWS.values(), *BASELINES.values()]
    return [
        _day(folder / f"{day[:10]}.om", int(datetime.fromisoformat(day).timestamp()))
        for day in days
    ]


def _day(path: Path, start: int) -> Path:
    times = range(start - 10 * SCRAPE, start + 24 * HOUR + 1, SCRAPE)
    lines = []
    for family, kind in (("up", "gauge"), ("requests", "counter")):
        lines.append(f"# TYPE {family} {kind}")
        for region in REGIONS:
            for service in SERVICES:
                labels = f'region="{region}",service={json.dumps(service, ensure_ascii=False)}'
                count = 0
                for time in times:
                    busy = datetime.fromtimestamp(time - SCRAPE, UTC).hour == BUSY
                    count += SCRAPE * (10 if busy else 1)
                    value, name = (1, "up") if kind == "gauge" else (count, "requests_total")
                    lines.append(f"{name}{{{labels}}} {value} {time}")
    path.write_text("\n".join([*lines, "# EOF", ""]), encoding="utf-8")
    return path
