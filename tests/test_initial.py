"""From a server that nobody described to a decision: two commands, no edit, on unlike servers.

One server holds all instrumentations at once, and each is chosen of it; others hold one, with odd
names, and hold less. All that they hold is simulated.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tars_ga_lib import initial, parameters
from tars_ga_lib.grammar import ParametersError, shipped
from tests import servers
from tests.helpers import ROOT, tars_ga

HOUR, DAY, SCRAPE = 3600, 86400, 60
PLACES = [(region, service) for region in ("fra1", "nyc3") for service in ("cart", "checkout")]
ERRORS = 0.0004
EDGES = {0.1: 0.8, 0.3: 0.985, 0.5: 0.999, math.inf: 1.0}


class Server(NamedTuple):
    """How a server names the requests that it holds; `up_service` is the label of `up`."""

    about: str
    total: str
    buckets: str
    region: str
    service: str
    status: str
    more: str = ""
    milliseconds: bool = False
    alias: str = ""
    up_service: str | None = None


KINDS = {
    "client_libraries": Server(
        "client libraries' http_requests_total", "http_requests_total",
        "http_request_duration_seconds_bucket", "region", "service", "code",
    ),
    "opentelemetry": Server(
        "OpenTelemetry's http.server.request.duration",
        "http_server_request_duration_seconds_count",
        "http_server_request_duration_seconds_bucket", "cloud_region", "service_name",
        "http_response_status_code",
    ),
    "istio": Server(
        "Istio's istio_requests_total", "istio_requests_total",
        "istio_request_duration_milliseconds_bucket", "cluster", "destination_workload",
        "response_code", 'reporter="destination"', True,
    ),
    "nginx_ingress": Server(
        "the NGINX ingress controller's requests", "nginx_ingress_controller_requests",
        "nginx_ingress_controller_request_duration_seconds_bucket", "dc", "ingress", "status",
    ),
    "spring": Server(
        "Spring's http_server_requests_seconds", "http_server_requests_seconds_count",
        "http_server_requests_seconds_bucket", "dc", "app", "status",
        up_service="exported_service",
    ),
}  # fmt: skip
ODD = Server(
    "client libraries' http_requests_total", "http_requests",
    "http_request_duration_ms_bucket", "zone", "workload", "response_code", "", True,
)  # fmt: skip
"""A native counter without `_total`, and buckets in milliseconds."""

INFRASTRUCTURE = {
    "container_cpu_usage_seconds_total": ("container", 0.4, True),
    "container_memory_working_set_bytes": ("container", 3e8, False),
    "kube_deployment_spec_replicas": ("deployment", 2.0, False),
    "node_cpu": ("", 0.5, True),
    "promtail_read_bytes_total": ("", 1e3, True),
    "node_memory_MemTotal": ("", 8e9, False),
    "node_memory_MemAvailable": ("", 5e9, False),
}
"""Metrics of cAdvisor, kube-state-metrics and an old node exporter: label, value, if it counts."""


def requests_of(server: Server, times: range) -> Mapping[str, list[str]]:
    """Return samples of two regions and services as OpenMetrics, by metric."""
    noise = random.Random(times[0])
    up: list[str] = []
    counts: list[str] = []
    buckets: dict[str, list[str]] = {}
    for region, service in PLACES:
        place = f'{server.region}="{region}",{server.service}="{service}"'
        if server.alias:
            place += f',{server.alias}="{service}-1"'
        if server.up_service != "":
            name = server.up_service or server.service
            up += [f'up{{{server.region}="{region}",{name}="{service}"}} 1 {t}' for t in times]
        for code, share in (("200", 1 - ERRORS), ("500", ERRORS)):
            labels = ",".join(filter(None, [place, server.more, f'{server.status}="{code}"']))
            total = 0.0
            for t in times:
                total += 600 * share * (1 + 0.3 * math.sin(t / DAY * 6.28)) * noise.gauss(1, 0.02)
                counts.append(f"{server.total}{{{labels}}} {total:.3f} {t}")
                for edge, part in EDGES.items():
                    le = edge * 1000 if server.milliseconds else edge
                    le_text = "+Inf" if math.isinf(le) else f"{le:g}"
                    series = f'{server.buckets}{{{labels},le="{le_text}"}}'
                    buckets.setdefault(series, []).append(f"{series} {total * part:.3f} {t}")
    return {
        "up": up,
        server.total: counts,
        server.buckets: [line for lines in buckets.values() for line in lines],
    }


def infrastructure(times: range) -> Mapping[str, list[str]]:
    """Return what cAdvisor, kube-state-metrics and a node exporter say, by metric."""
    found: dict[str, list[str]] = {}
    for metric, (label, value, counts) in INFRASTRUCTURE.items():
        for region, service in PLACES:
            own = f'{label}="{service}"' if label else f'instance="{service}-node"'
            series = f'{metric}{{cluster="{region}",{own}}}'
            found.setdefault(metric, []).extend(
                f"{series} {value * ((t - times[0]) if counts else 1):.6g} {t}" for t in times
            )
    return found


def write(path: Path, *parts: Mapping[str, list[str]]) -> Path:
    """Write samples as OpenMetrics, one family after the other."""
    families: dict[str, list[str]] = {}
    for part in parts:
        for metric, lines in part.items():
            families.setdefault(metric, []).extend(lines)
    text = [f"# TYPE {m} unknown\n" + "\n".join(lines) for m, lines in families.items() if lines]
    path.write_text("\n".join([*text, "# EOF", ""]), encoding="utf-8")
    return path


def hours_of(hours: int, ago: int, apart: int) -> list[range]:
    """Times of the scrapes of the window, and of its baseline so many days before."""
    start = int(time.time()) // DAY * DAY - DAY - ago
    return [range(start - d * DAY - 600, start - d * DAY + hours * HOUR + 1, SCRAPE)
            for d in (apart, 0)]  # fmt: skip


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    """Return a function that serves hours of a server, the last ending `ago` before now."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def serving(server: Server, *, hours: int = 8, ago: int = 0, apart: int = 7) -> str:
            folder = tmp_path / server.about[:5].strip()
            folder.mkdir()
            files = [
                write(folder / f"{times[0]}.om", requests_of(server, times))
                for times in hours_of(hours, ago, apart)
            ]
            servers.backfill(folder / "data", *files)
            return str(stack.enter_context(servers.prometheus(folder / "data")))

        yield serving


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve all instrumentations at once."""
    folder = tmp_path_factory.mktemp("everything")
    files = [
        write(
            folder / f"{times[0]}.om",
            *(requests_of(server, times) for server in KINDS.values()),
            infrastructure(times),
        )
        for times in hours_of(8, 0, 7)
    ]
    servers.backfill(folder / "data", *files)
    with servers.prometheus(folder / "data") as url:
        yield url


def choosing(about: str) -> initial.Ask:
    """Return an answer to the question which instrumentation is meant; else the first is taken."""
    return lambda question, names: about if about in names else names[0]


# --- from init to a decision ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["client_libraries", "spring"])
def test_two_commands_and_no_edit_to_a_decision(serve: Any, tmp_path: Path, kind: str) -> None:
    """By the demo's names, and by others; on neither server is any metric of Kubernetes."""
    server = KINDS[kind]
    url = serve(server)
    done = tars_ga("init", url, "-o", tmp_path / "my", "--version", "v1")
    assert done.returncode == 0, done.stderr
    assert f"region by {server.region}, service by {server.service}" in done.stdout
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
    assert error_rate["value"] == pytest.approx(ERRORS, rel=0.02)
    assert {"KPI cpu_usage", "criterion critical_alerts"} <= set(told["left_out"])
    job = parameters.load(tmp_path / "my" / "run.yaml")
    other = server.up_service
    assert job.scrapes.labels == ({"service": other} if other else {})
    assert job.criteria["error_rate"].objective == "error-rate"
    assert str(job.criteria["error_rate"].target) == "< 0.001"


# --- what is known --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_each_instrumentation_is_known(everything: str, tmp_path: Path, kind: str) -> None:
    server = KINDS[kind]
    found = initial.look(everything, ask=choosing(server.about))
    assert found.requests.why == server.about
    assert set(found.requests.others) == {other.about for other in KINDS.values()} - {server.about}
    assert {d: c.value for d, c in found.labels.items()} == {
        "region": server.region, "service": server.service,
    }  # fmt: skip
    assert found.status
    assert found.status.value == server.status
    assert found.cells == set(PLACES)
    assert found.seen == ["cAdvisor", "kube-state-metrics", "the node exporter"]
    findings = initial.write(found, tmp_path / "my", name="Mine", version="1.0")
    assert [each.problem for each in findings if each.needed and not each.ok] == []
    job = parameters.load(tmp_path / "my" / "run.yaml")
    assert job.parameters.release.version == "1.0"  # not a number
    assert {"availability", "error_rate", "latency_p99"} <= job.kpis.keys() & job.criteria.keys()
    assert list(job.slos) == ["availability", "error-rate", "latency-p99"]
    assert job.kpis["latency_p99"].unit == ("ms" if server.milliseconds else "seconds")
    assert job.criteria["latency_p99"].limit.value == (500 if server.milliseconds else 0.5)
    # Infrastructure is told by its own labels, and by the names of its own time.
    assert job.kpis["cpu_usage"].labels["service"] == "container"
    assert job.kpis["replica_count"].labels["service"] == "deployment"
    assert "log_volume" in job.kpis  # one of its three collectors is there
    memory = job.kpis["cluster_memory_utilisation"]
    assert "node_memory_MemTotal{" in str(memory.denominator)
    assert memory.labels.get("region", job.parameters.labels.region) == "cluster"
    dropped = yaml.safe_load((tmp_path / "my" / initial.OVERLAY).read_text("utf-8"))["drop"]
    assert set(dropped) == {name for what, name in job.left_out if what == "KPI"}
    (before,) = job.parameters.baseline_intervals()
    assert job.parameters.window.seconds == 8 * HOUR == before.seconds
    assert job.parameters.window.start - before.start == 7 * DAY


@pytest.mark.parametrize("kind", ["opentelemetry", "istio"])
def test_requests_are_counted_where_no_target_is_scraped(
    serve: Any, tmp_path: Path, kind: str
) -> None:
    server = KINDS[kind]._replace(up_service="")
    found = initial.look(serve(server))
    assert found.left_out["availability"].startswith("there is no metric up")
    findings = initial.write(found, tmp_path / "my", name="n", version="v")
    job = parameters.load(tmp_path / "my" / "run.yaml")
    inside = ",".join(filter(None, [server.more, "$match"]))
    assert job.scrapes.selector == f"{server.total}{{{inside}}}"
    counted = [each for each in findings if each.request.id.startswith("scrapes")]
    assert counted
    assert [each.problem for each in counted if not each.ok] == []


def test_odd_names_of_a_convention_are_met(serve: Any, tmp_path: Path) -> None:
    found = initial.look(serve(ODD))
    findings = initial.write(found, tmp_path / "my", name="n", version="v")
    assert [each.problem for each in findings if not each.ok] == []
    job = parameters.load(tmp_path / "my" / "run.yaml")
    assert 'http_requests{response_code=~"5..",$match}' in str(job.kpis["error_rate"].numerator)
    assert (job.kpis["latency_p99"].unit, found.edge) == ("ms", "500")
    assert str(job.criteria["latency_p99"].limit) == "< 500"
    assert job.parameters.labels.model_dump() == {"region": "zone", "service": "workload"}


def test_data_of_long_ago_and_of_the_day_before(serve: Any) -> None:
    found = initial.look(serve(KINDS["spring"], hours=24, ago=100 * DAY, apart=1))
    assert (found.window[1] - found.window[0], found.baseline[:2]) == (DAY, (DAY, 1))
    assert "the days before" in found.baseline[2]


# --- what is not ----------------------------------------------------------------------------------


def test_names_of_no_profile_are_left_out_and_told(serve: Any, tmp_path: Path) -> None:
    """Requests by unknown names are taken for nothing; who says what counts them is believed."""
    odd = KINDS["spring"]._replace(
        about="odd", total="gateway_answers", buckets="gateway_time_bucket"
    )
    url = serve(odd)
    done = tars_ga("init", url, "-o", tmp_path / "x")
    assert done.returncode == 2
    assert "holds nothing that a drift rule compares" in done.stderr
    assert f"tars-ga init {url} --requests METRIC --latency METRIC" in done.stderr
    assert "there are HTTP statuses on: gateway_answers (by status)" in done.stderr
    assert "there are buckets: gateway_time_bucket" in done.stderr
    found = initial.look(url, ask=choosing("gateway_answers"))
    assert (found.requests.value, found.requests.why) == ("gateway_answers", "as chosen")
    asked = {"requests": "gateway_answers", "latency": "gateway_time_bucket"}
    found = initial.look(url, asked)
    assert "does not say whether it counts seconds" in found.left_out["latency_p99"]
    initial.write(found, tmp_path / "my", name="n", version="v")
    job = parameters.load(tmp_path / "my" / "run.yaml")
    assert "gateway_answers{status=~" in str(job.kpis["error_rate"].numerator)
    assert list(job.slos) == ["availability", "error-rate"]
    assert ("criterion", "latency_p99") in job.left_out
    with pytest.raises(ParametersError, match=r"--latency x: .* has no such metric"):
        initial.look(url, asked | {"latency": "x"})


def test_what_is_there_is_certified_without_requests(tmp_path: Path) -> None:
    """Targets and containers alone have availability and drift, and no request is made up."""
    odd = KINDS["istio"]._replace(
        total="gateway_answers", buckets="x", service="container", more=""
    )
    files = []
    for times in hours_of(8, 0, 7):
        parts = requests_of(odd, times), infrastructure(times)
        files.append(write(tmp_path / f"{times[0]}.om", *parts))
    servers.backfill(tmp_path / "data", *files)
    with servers.prometheus(tmp_path / "data") as url:
        done = tars_ga("init", url, "-o", tmp_path / "my")
        assert done.returncode == 0, done.stderr
    assert "gateway_answers (by response_code)" in done.stdout
    job = parameters.load(tmp_path / "my" / "run.yaml")
    assert {"availability", "cpu_usage", "memory_usage", "replica_count"} <= job.kpis.keys()
    assert not {"requests", "error_rate", "latency_p99"} & job.kpis.keys()
    assert list(job.slos) == ["availability"]
    assert "gateway_answers" in (tmp_path / "my" / "run.yaml").read_text("utf-8")


def test_what_cannot_be_told_is_refused(serve: Any, tmp_path: Path, empty_server: str) -> None:
    with pytest.raises(ParametersError, match=r"neither targets .* nor metrics of requests"):
        initial.look(empty_server)
    odd = KINDS["spring"]._replace(region="kitchen", service="spoon", about="odd")
    url = serve(odd)
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
    tie = KINDS["spring"]._replace(more='job="x"', alias="workload", about="tie")
    url = serve(tie)
    choice = initial.look(url).labels["service"]
    assert (choice.value, choice.others) == ("app", ["workload"])
    assert "also seen: workload" in str(choice)
    assert asked == []
    found = initial.look(url, ask=ask)
    assert asked[0][1] == ["app", "workload"]
    assert found.labels["service"].value == "workload"
    assert found.members["service"] == ["cart-1", "checkout-1"]


def test_profiles_speak_of_the_catalogue() -> None:
    """What they rename, and what is left to others, is there to be renamed and left."""
    catalogue = (ROOT / "parameters" / "kpis.yaml").read_text("utf-8")
    for profile in initial.profiles():
        assert all(f"{metric}{{" in catalogue for metric in profile.metrics), profile.about
    criteria = yaml.safe_load((ROOT / "parameters" / "criteria.yaml").read_text("utf-8"))
    assert {*initial.ELSEWHERE, "critical_alerts"} <= criteria["criteria"].keys()
    assert shipped("parameters") == ROOT / "parameters"
