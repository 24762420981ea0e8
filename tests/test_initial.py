"""From a server that nobody described to a decision: two commands, no edit, on unlike servers."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tars_ga_lib import initial, parameters
from tars_ga_lib.grammar import ParametersError
from tests import servers
from tests.helpers import ROOT, tars_ga

DAY, SCRAPE = 86400, 60


class Server(NamedTuple):
    """How a server names what it holds."""

    profile: str
    total: str
    buckets: str
    region: str
    service: str
    status: str
    more: str = ""
    thousand: bool = False
    codes: tuple[str, str] = ("200", "500")
    alias: str = ""
    up_service: str | None = None
    """Label by which `up` names the service, where it differs; "" if these have no `up`."""


PLACES = [(region, service) for region in ("fra1", "nyc3") for service in ("cart", "checkout")]
SERVERS = {
    "client_libraries": Server(
        "client libraries' http_requests_total", "http_requests_total",
        "http_request_duration_seconds_bucket", "region", "service", "code",
    ),
    "opentelemetry": Server(
        "OpenTelemetry", "http_server_request_duration_seconds_count",
        "http_server_request_duration_seconds_bucket", "cloud_region", "service_name",
        "http_response_status_code",
    ),
    "istio": Server(
        "Istio", "istio_requests_total", "istio_request_duration_milliseconds_bucket", "cluster",
        "destination_workload", "response_code", 'reporter="destination"', True,
    ),
    "nginx_ingress": Server(
        "NGINX", "nginx_ingress_controller_requests",
        "nginx_ingress_controller_request_duration_seconds_bucket", "dc", "ingress", "status",
    ),
    "spring": Server(
        "Spring", "http_server_requests_seconds_count", "http_server_requests_seconds_bucket", "dc",
        "app", "status", up_service="exported_service",
    ),
}  # fmt: skip


def write(folder: Path, server: Server, start: int, length: int, errors: float) -> Path:
    """Write a day as OpenMetrics: requests of two regions and services, and what scrapes saw."""
    times = range(start - 10 * SCRAPE, start + length + 1, SCRAPE)
    noise = random.Random(start)
    shares = {0.1: 0.8, 0.3: 0.985, 0.5: 0.999, math.inf: 1.0}
    up: list[str] = ["# TYPE up gauge"]
    counts, buckets = [f"# TYPE {server.total} unknown"], [f"# TYPE {server.buckets} unknown"]
    for region, service in PLACES:
        place = f'{server.region}="{region}",{server.service}="{service}"'
        if server.alias:
            place += f',{server.alias}="{service}-1"'
        if server.up_service != "":
            name = server.up_service or server.service
            up += [f'up{{{server.region}="{region}",{name}="{service}"}} 1 {t}' for t in times]
        for code, share in zip(server.codes, (1 - errors, errors), strict=True):
            labels = ",".join(filter(None, [place, server.more, f'{server.status}="{code}"']))
            total = 0.0
            for t in times:
                total += 600 * share * (1 + 0.3 * math.sin(t / DAY * 6.28)) * noise.gauss(1, 0.02)
                counts.append(f"{server.total}{{{labels}}} {total:.3f} {t}")
                for edge, part in shares.items():
                    le = edge * 1000 if server.thousand else edge
                    le_text = "+Inf" if math.isinf(le) else f"{le:g}"
                    text = f'{server.buckets}{{{labels},le="{le_text}"}}'
                    buckets.append(f"{text} {total * part:.3f} {t}")
    path = folder / f"{start}.om"
    buckets = [buckets[0], *sorted(buckets[1:], key=lambda line: line.split("}")[0])]
    path.write_text("\n".join([*up, *counts, *buckets, "# EOF", ""]), encoding="utf-8")
    return path


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    """Return a function that serves hours of a server of a kind, the last ending `ago` before."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def serving(server: Server, *, hours: int = 24, ago: int = 0, apart: int = 7) -> str:
            folder = tmp_path / server.profile[:5].strip()
            folder.mkdir()
            start = int(time.time()) // DAY * DAY - DAY - ago
            files = [
                write(folder, server, start - d * DAY, hours * 3600, 0.0004) for d in (apart, 0)
            ]
            servers.backfill(folder / "data", *files)
            return str(stack.enter_context(servers.prometheus(folder / "data")))

        yield serving


@pytest.mark.parametrize("kind", ["client_libraries", "spring"])
def test_two_commands_and_no_edit_to_a_decision(serve: Any, tmp_path: Path, kind: str) -> None:
    url = serve(SERVERS[kind])
    done = tars_ga("init", url, "-o", tmp_path / "my", "--version", "v1")
    assert done.returncode == 0, done.stderr
    assert f"{SERVERS[kind].region}, service by" in done.stdout.replace("region by ", "")
    command = done.stdout.splitlines()[-1].split()
    assert command[0].endswith("tars-ga")
    assert command[1] == "run"
    done = tars_ga(*command[1:], "--output", tmp_path / "out", "--json")
    assert done.returncode == 4, done.stderr
    told = json.loads(done.stdout)
    verdicts = {each["name"]: each["verdict"] for each in told["criteria"]}
    # What no metric tells stays asked for: nobody said that there were no incidents.
    assert {n for n, v in verdicts.items() if v == "no_data"} == {
        "critical_incidents", "rollback_tested",
    }  # fmt: skip
    assert verdicts["error_rate"] == verdicts["availability"] == verdicts["latency_p99"] == "pass"
    (error_rate,) = [each for each in told["criteria"] if each["name"] == "error_rate"]
    assert error_rate["value"] == pytest.approx(0.0004, rel=0.02)
    assert {"KPI cpu_usage", "criterion critical_alerts"} <= set(told["left_out"])
    job = parameters.load(tmp_path / "my" / "run.yaml")
    other = SERVERS[kind].up_service
    assert job.scrapes.labels == ({"service": other} if other else {})
    assert job.criteria["error_rate"].objective == "error-rate"
    assert str(job.criteria["error_rate"].target) == "< 0.001"


@pytest.mark.parametrize("kind", SERVERS)
def test_each_instrumentation_is_known(serve: Any, tmp_path: Path, kind: str) -> None:
    server = SERVERS[kind]
    found = initial.look(serve(server, hours=8))
    assert server.profile in found.profile.about
    assert {d: c.value for d, c in found.labels.items()} == {
        "region": server.region, "service": server.service,
    }  # fmt: skip
    assert found.status
    assert found.status.value == server.status
    assert found.cells == set(PLACES)
    findings = initial.write(found, tmp_path / "my", name="Mine", version="1.0")
    assert all(each.ok for each in findings if each.needed)
    job = parameters.load(tmp_path / "my" / "run.yaml")
    assert job.parameters.release.version == "1.0"  # not a number
    assert {"availability", "error_rate", "latency_p99"} <= job.kpis.keys()
    assert {"availability", "error_rate", "latency_p99"} <= job.criteria.keys()
    assert list(job.slos) == ["availability", "error-rate"]
    assert job.kpis["latency_p99"].unit == ("ms" if server.thousand else "seconds")
    assert job.criteria["latency_p99"].limit.value == (500 if server.thousand else 0.5)
    dropped = yaml.safe_load((tmp_path / "my" / initial.OVERLAY).read_text("utf-8"))["drop"]
    assert set(dropped) == {name for what, name in job.left_out if what == "KPI"}
    assert (
        job.parameters.window.seconds == 8 * 3600 == job.parameters.baseline_intervals()[0].seconds
    )
    assert job.parameters.window.start - job.parameters.baseline_intervals()[0].start == 7 * DAY


@pytest.mark.parametrize("kind", ["opentelemetry", "istio"])
def test_requests_are_counted_where_no_target_is_scraped(
    serve: Any, tmp_path: Path, kind: str
) -> None:
    server = SERVERS[kind]._replace(up_service="")
    found = initial.look(serve(server, hours=8))
    assert found.left_out["availability"] == "there is no metric up"
    findings = initial.write(found, tmp_path / "my", name="n", version="v")
    job = parameters.load(tmp_path / "my" / "run.yaml")
    inside = ",".join(filter(None, [server.more, "$match"]))
    assert job.scrapes.selector == f"{server.total}{{{inside}}}"
    counted = [each for each in findings if each.request.id.startswith("scrapes")]
    assert counted
    assert [each.problem for each in counted if not each.ok] == []


def test_data_of_long_ago_and_of_the_day_before(serve: Any) -> None:
    found = initial.look(serve(SERVERS["spring"], hours=24, ago=100 * DAY, apart=1))
    assert (found.window[1] - found.window[0], found.baselines) == (DAY, (DAY, 1))
    assert "the days before" in found.why_baseline


def test_what_cannot_be_told_is_refused(serve: Any, tmp_path: Path, empty_server: str) -> None:
    with pytest.raises(ParametersError, match="none of the metrics of requests that are known"):
        initial.look(empty_server)
    odd = SERVERS["spring"]._replace(region="kitchen", service="spoon", profile="odd")
    url = serve(odd, hours=8)
    assert initial.look(url, {"service": "spoon"}).labels["region"].value == "kitchen"
    with pytest.raises(ParametersError, match="names a service; say which does with --service-la"):
        initial.look(url)
    with pytest.raises(ParametersError, match=r"--region-label mars: .* has no such label; it has"):
        initial.look(url, {"region": "mars"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    found = initial.look(url, {"service": "spoon"})
    with pytest.raises(ParametersError, match="is not empty; name a new folder"):
        initial.write(found, tmp_path / "full", name="n", version="v")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
    done = tars_ga("init", f"http://127.0.0.1:{servers.free_port()}", "-o", tmp_path / "x")
    assert done.returncode == 4
    assert "cannot be reached" in done.stderr


def test_a_tie_is_asked_and_else_listed(serve: Any) -> None:
    asked: list[tuple[str, list[str]]] = []

    def ask(question: str, several: Any) -> str:
        asked.append((question, list(several)))
        return str(several[-1])

    # `job` has one value for all, so it is no rival of `app`; `workload` is one.
    tie = SERVERS["spring"]._replace(more='job="x"', alias="workload", profile="tie")
    url = serve(tie, hours=8)
    choice = initial.look(url).labels["service"]
    assert (choice.value, choice.others) == ("app", ["workload"])
    assert "also seen: workload" in choice.comment()
    assert asked == []
    found = initial.look(url, ask=ask)
    assert asked[0][1] == ["app", "workload"]
    assert found.labels["service"].value == "workload"
    assert found.members["service"] == ["cart-1", "checkout-1"]


def test_what_is_left_to_others_is_in_the_catalogue() -> None:
    criteria = yaml.safe_load((ROOT / "parameters" / "criteria.yaml").read_text("utf-8"))
    assert {*initial.ELSEWHERE, "critical_alerts"} <= criteria["criteria"].keys()
    assert initial.catalogues_folder() == ROOT / "parameters"
