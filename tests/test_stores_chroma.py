"""The checks of Chroma against real servers, and a faulty one before them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from tars_ga_lib.system.checks import Outcome
from tests import stores
from tests.checking import HIDDEN, Measure, outcomes
from tests.servers import Behaviour, faulty

EAST, WEST, EU = stores.REGIONS


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> Iterator[stores.Chroma]:
    with stores.chroma_servers(120, collections=["agent_memories", "skills"]) as servers:
        yield servers
        if request.session.testsfailed:
            print(servers.logs())


@pytest.fixture
def mended(servers: stores.Chroma) -> Iterator[None]:
    """Let the collection be what it was, whatever a test did to it."""
    yield
    for region in stores.REGIONS:
        names = {each["name"] for each in servers.call(region, "GET")}
        if "agent_memories" in names:
            servers.lose(region, "agent_memories")
        servers.make(region, "agent_memories", 120)


@pytest.fixture
def measure(servers: stores.Chroma) -> Measure:
    """Return a function that runs the checks of collections, with keys of a replica changed."""

    def run(
        *collections: str, only: str = "", environ: dict[str, str] | None = None, **changes: Any
    ) -> dict[str, Outcome]:
        section = servers.section(*collections) | {"timeout": "1s"}
        section["replicas"][0] |= changes
        return outcomes("chroma", section, environ or {}, only)

    return run


def west(found: dict[str, Outcome]) -> Outcome:
    """Return the outcome of the first replica."""
    (outcome,) = (outcome for name, outcome in found.items() if WEST in name)
    return outcome


def test_equal_collections_pass(measure: Measure) -> None:
    found = measure("agent_memories", "skills")
    assert {name: (o.verdict, o.value) for name, o in found.items()} == {
        f"vector_count.{region}.{name}": ("pass", 0)
        for region in (WEST, EU)
        for name in ("agent_memories", "skills")
    }
    found = measure()
    assert west(found).reason == "us-east-1 120, us-west-2 120"
    assert west(found).check.measure == "count_difference"
    assert "/databases/default_database/collections/agent_memories" in west(found).check.query


def test_missing_vectors_are_counted_where_they_are_missing(
    servers: stores.Chroma, measure: Measure, mended: None
) -> None:
    servers.lose(WEST, "agent_memories", "7", "8", "9")
    found = measure("agent_memories", "skills")
    lost = found[f"vector_count.{WEST}.agent_memories"]
    assert (lost.verdict, lost.value) == ("fail", 3)
    assert lost.reason == "us-east-1 120, us-west-2 117"
    assert found[f"vector_count.{EU}.agent_memories"].verdict == "pass"
    assert found[f"vector_count.{WEST}.skills"].verdict == "pass"


def test_vectors_that_only_a_replica_has_are_a_difference(
    servers: stores.Chroma, measure: Measure, mended: None
) -> None:
    servers.lose(EAST, "agent_memories", "7")
    found = west(measure())
    assert (found.verdict, found.value) == ("fail", 1)
    assert found.reason == "us-east-1 119, us-west-2 120"


def test_a_missing_collection_fails_and_is_named(
    servers: stores.Chroma, measure: Measure, mended: None
) -> None:
    servers.lose(WEST, "agent_memories")
    found = measure()
    assert (west(found).verdict, west(found).value) == ("fail", 120)
    assert west(found).reason.endswith("there is no collection agent_memories in us-west-2")
    assert found[f"vector_count.{EU}.agent_memories"].verdict == "pass"
    servers.lose(EAST, "agent_memories")
    found = measure()
    assert (west(found).verdict, west(found).cause) == ("no_data", "no_rows")
    assert west(found).reason == "neither server has a collection agent_memories"
    assert found[f"vector_count.{EU}.agent_memories"].value == 120


def test_a_difference_that_is_allowed_passes_and_is_told(
    servers: stores.Chroma, measure: Measure, mended: None
) -> None:
    servers.lose(WEST, "agent_memories", "7")
    section = servers.section()
    section["collections"] = [{"name": "agent_memories", "difference": "<= 1"}]
    found = west(outcomes("chroma", section, {}))
    assert (found.verdict, found.value) == ("pass", 1)


def test_no_vectors_anywhere_is_no_data(servers: stores.Chroma, measure: Measure) -> None:
    for region in stores.REGIONS:
        servers.make(region, "bare", 0)
    found = west(measure("bare"))
    assert (found.verdict, found.cause) == ("no_data", "no_rows")
    assert found.reason == "the collection bare has no vectors to compare"


def test_a_stopped_server_is_named_and_the_others_are_measured(
    servers: stores.Chroma, measure: Measure
) -> None:
    servers.stop(WEST)
    try:
        found = measure()
    finally:
        servers.start(WEST)
    assert (west(found).verdict, west(found).cause) == ("no_data", "unreachable")
    assert west(found).reason.startswith("us-west-2 (chroma 127.0.0.1:")
    assert found[f"vector_count.{EU}.agent_memories"].verdict == "pass"


def test_a_stopped_primary_is_named(servers: stores.Chroma, measure: Measure) -> None:
    servers.stop(EAST)
    try:
        found = measure()
    finally:
        servers.start(EAST)
    assert {outcome.cause for outcome in found.values()} == {"unreachable"}
    assert all(outcome.reason.startswith("us-east-1 (") for outcome in found.values())


@pytest.mark.parametrize("header", ["Authorization", "X-Chroma-Token"])
def test_the_token_comes_from_the_environment(
    servers: stores.Chroma, measure: Measure, header: str
) -> None:
    with faulty(servers.url(WEST), "pass", only="/api/v2") as proxy:
        found = measure(
            url=proxy.url,
            token_env="TARS_GA_CHROMA_TOKEN",
            token_header=header,
            environ={"TARS_GA_CHROMA_TOKEN": HIDDEN},
        )
    assert west(found).verdict == "pass"
    wanted = f"Bearer {HIDDEN}" if header == "Authorization" else HIDDEN
    assert {sent.get(header) for sent in proxy.headers} == {wanted}
    assert all(asked.startswith("GET ") for asked in proxy.asked)  # nothing that could change
    assert HIDDEN not in " ".join(f"{o.facts()} {o!r}" for o in found.values())


def test_a_wrong_token_is_unauthorised_and_never_told(
    servers: stores.Chroma, measure: Measure
) -> None:
    upstream, authorization = servers.url(WEST), "Bearer the right one"
    with faulty(upstream, "pass", only="/api/v2", authorization=authorization) as proxy:
        found = measure(
            url=proxy.url,
            token_env="TARS_GA_CHROMA_TOKEN",
            environ={"TARS_GA_CHROMA_TOKEN": HIDDEN},
        )
        without = measure(url=proxy.url)
    assert (west(found).verdict, west(found).cause) == ("no_data", "unauthorised")
    assert west(found).reason.endswith("refuses us: HTTP 401; see the token")
    assert west(without).cause == "unauthorised"
    told = " ".join(f"{json.dumps(o.facts())} {o.check!r} {o!r}" for o in found.values())
    assert HIDDEN not in told


def test_a_token_that_is_not_set_is_not_configured(measure: Measure) -> None:
    found = west(measure(token_env="TARS_GA_UNSET"))
    assert (found.verdict, found.cause) == ("no_data", "not_configured")
    assert "TARS_GA_UNSET is not set" in found.reason


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        ("500", "refused"),
        ("429", "refused"),
        ("stall", "timed_out"),
        ("drop", "unreachable"),
        ("truncated", "unreachable"),
        ("malformed", "error"),
        ("html", "error"),
        ("empty", "error"),  # JSON of another system
        (b'{"id": "an id that there is not"}', "error"),
        (b"true", "error"),
        (b"120", "error"),
    ],
)
def test_an_answer_that_is_none_is_no_data(
    servers: stores.Chroma, measure: Measure, behaviour: Behaviour, cause: str
) -> None:
    with faulty(servers.url(WEST), behaviour, only="/api/v2") as proxy:
        found = west(measure(url=proxy.url))
    assert (found.verdict, found.cause) == ("no_data", cause)
    assert found.reason.startswith("us-west-2 (chroma 127.0.0.1:")


@pytest.mark.parametrize("count", [b"true", b'"120"', b"120.5", b"-1", b"null"])
def test_a_count_that_is_none_is_no_data(
    servers: stores.Chroma, measure: Measure, count: bytes
) -> None:
    with faulty(servers.url(WEST), "pass", count, only="/api/v2") as proxy:
        found = west(measure(url=proxy.url))
    assert (found.verdict, found.cause) == ("no_data", "error")


def test_another_servers_404_is_no_missing_collection(measure: Measure, servers: Any) -> None:
    found = west(measure(url=f"{servers.url(WEST)}/elsewhere"))
    assert (found.verdict, found.cause) == ("no_data", "refused")
    assert found.reason.endswith("answers with HTTP 404")


def test_a_token_is_not_carried_elsewhere(
    servers: stores.Chroma, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(servers.url(WEST), "pass", only="/api/v2") as elsewhere:

        class Moved(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(302)
                self.send_header("Location", elsewhere.url + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Moved)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("http_proxy", elsewhere.url)  # nor by what the environment asks for
        try:
            found = west(
                measure(
                    url=f"http://127.0.0.1:{server.server_port}",
                    token_env="TARS_GA_CHROMA_TOKEN",
                    token_header="X-Chroma-Token",
                    environ={"TARS_GA_CHROMA_TOKEN": HIDDEN},
                )
            )
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
    assert (found.verdict, found.cause) == ("no_data", "refused")
    assert "sends us elsewhere (HTTP 302)" in found.reason
    assert elsewhere.asked == []


def test_a_name_goes_into_the_url_as_it_is(servers: stores.Chroma, measure: Measure) -> None:
    with faulty(servers.url(WEST), "pass", only="/api/v2") as proxy:
        found = west(measure("agent memories/v2", url=proxy.url, tenant="a/b"))
    assert found.verdict == "no_data"
    paths = " ".join(proxy.asked)
    assert "/tenants/a%2Fb/" in paths
    assert "/agent%20memories%2Fv2" in paths


def test_the_servers_of_the_tests_hold_what_they_say(servers: stores.Chroma) -> None:
    for region in stores.REGIONS:
        found = servers.call(region, "GET", "/skills")
        assert servers.call(region, "GET", f"/{found['id']}/count") == 120
    assert requests.get(f"{servers.url(EAST)}/api/v2/heartbeat", timeout=5).status_code == 200
