"""The Prometheus client, against real servers and against one that misbehaves."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st

from tars_ga_lib import prometheus
from tars_ga_lib.prometheus import MAX_POINTS, Prometheus, QueryError, SourceError
from tests import servers
from tests.servers import Behaviour, Served

SECRET = "hunter2secret"
START, STOP, STEP = 1_795_132_800, 1_795_133_700, 300  # three steps
TIMES = [START + STEP, START + 2 * STEP, STOP]


def client(url: str, **options: Any) -> Prometheus:
    """Return a client that takes nothing from this machine's environment and does not wait long."""
    defaults: dict[str, Any] = {"environ": {}, "timeout": 5, "attempts": 4}
    return Prometheus(url, **defaults | options)


def matrix(*series: tuple[dict[str, str], list[Any]], **more: Any) -> bytes:
    """Write an answer as Prometheus does."""
    result = [{"metric": labels, "values": values} for labels, values in series]
    answer = {"status": "success", "data": {"resultType": "matrix", "result": result}} | more
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()


def ask(*behaviours: Behaviour, **options: Any) -> prometheus.Answer:
    """Ask a query of a server that behaves like this."""
    with servers.faulty(None, *behaviours) as server, client(server.url, **options) as api:
        return api.range("up", START, STOP, STEP)


ONE = matrix(({"region": "east"}, [[TIMES[0], "1"], [TIMES[2], "3.5"]]))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait between attempts as long as in real life."""
    monkeypatch.setattr(tenacity, "wait_random_exponential", lambda **_: lambda _state: 0.01)


# --- Good answers ---------------------------------------------------------------------------------


def test_samples_lie_on_the_grid() -> None:
    answer = ask(ONE)
    assert answer.labels == [{"region": "east"}]
    np.testing.assert_array_equal(answer.values, [[1, np.nan, 3.5]])
    assert (answer.warnings, answer.nonfinite) == ([], 0)


def test_empty_answer() -> None:
    answer = ask("empty")
    assert answer.labels == []
    assert answer.values.shape == (0, 3)


def test_query_is_sent_as_a_form_with_its_grid() -> None:
    with servers.faulty(None, ONE) as server, client(server.url, org_id="tenant") as api:
        api.range('up{a="b c&d"}', START, STOP, STEP)
    (asked,) = server.asked
    assert asked.startswith("POST /api/v1/query_range")
    form = dict(part.split("=") for part in server.queries[0].split("&"))
    assert form["query"] == "up%7Ba%3D%22b+c%26d%22%7D"
    start, end = (float(form[key].replace("%3A", ":").rstrip("Z")) for key in ("start", "end"))
    assert (start, end, form["step"]) == (TIMES[0], TIMES[2], "300")
    assert server.headers[0]["X-Scope-OrgID"] == "tenant"


def test_samples_that_are_not_finite() -> None:
    row = [[TIMES[0], "NaN"], [TIMES[1], "+Inf"], [TIMES[2], "-Inf"]]
    answer = ask(matrix(({}, row), ({"a": "b"}, [[TIMES[0], "1e+06"], [TIMES[1], "-2.5e-07"]])))
    np.testing.assert_array_equal(
        answer.values, [[np.nan, np.inf, -np.inf], [1e6, -2.5e-7, np.nan]]
    )
    assert answer.nonfinite == 3


HOSTILE = [
    'quote" and \\ backslash',
    "line\nbreak\ttab\r",
    '"values":[[1,"2"]]',
    '\\"values\\":[[',
    "]],[[",
    '"resultType":"matrix"',
    "snow ☃ and 😀 and a soft\u00adhyphen",
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_labels(text: str) -> None:
    answer = ask(matrix(({"service": text}, [[TIMES[0], "1"]]), ({"service": "z"}, [[STOP, "2"]])))
    assert [labels["service"] for labels in answer.labels] == [text, "z"]
    np.testing.assert_array_equal(answer.values, [[1, np.nan, np.nan], [np.nan, np.nan, 2]])


numbers = st.floats(width=64) | st.integers(-(10**9), 10**9).map(float)
characters = st.characters(exclude_categories=["Cs"])
labels = st.dictionaries(
    st.text(characters, max_size=8), st.text(characters, max_size=12) | st.sampled_from(HOSTILE)
)
rows = st.lists(st.tuples(st.integers(0, 2), numbers), max_size=3, unique_by=lambda pair: pair[0])


def _text(value: float) -> str:
    return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN" if value != value else str(value))


@settings(deadline=None)
@given(
    st.lists(st.tuples(labels, rows.map(sorted)), max_size=5, unique_by=lambda one: str(one[0])),
    st.booleans(),
    st.booleans(),
)
def test_parsing_equals_json(
    found: list[tuple[dict[str, str], list[tuple[int, float]]]], ascii_only: bool, batched: bool
) -> None:
    body = matrix(*((each, [[TIMES[i], _text(v)] for i, v in row]) for each, row in found))
    if ascii_only:
        body = json.dumps(json.loads(body), separators=(",", ":")).encode()
    with pytest.MonkeyPatch.context() as patch:
        if batched:
            patch.setattr(prometheus, "_BATCH_BYTES", 1)
        answer = prometheus._lay(prometheus._parse(body), TIMES[0], STOP, STEP)
    result = json.loads(body)["data"]["result"]
    assert answer.labels == [series["metric"] for series in result]
    expected = np.full((len(result), 3), np.nan)
    for row, series in enumerate(result):
        for when, value in series["values"]:
            expected[row, TIMES.index(when)] = float(value)
    np.testing.assert_array_equal(answer.values, expected)
    sent = [float(value) for series in result for _, value in series["values"]]
    assert answer.nonfinite == sum(not math.isfinite(value) for value in sent)


# --- Warnings -------------------------------------------------------------------------------------


def test_warnings_are_kept() -> None:
    body = json.loads(ONE) | {"warnings": ["a store is gone"], "infos": ["not a counter"]}
    answer = ask(json.dumps(body, separators=(",", ":")).encode())
    assert (answer.warnings, answer.infos) == (["a store is gone"], ["not a counter"])
    assert answer.values[0, 0] == 1


def test_a_warning_that_looks_like_a_remark_is_a_warning() -> None:
    answer = ask(matrix(({}, [[STOP, "1"]]), warnings=["info: a store is gone"]))
    assert (answer.warnings, answer.infos) == (["info: a store is gone"], [])


def test_remarks_without_end_are_counted() -> None:
    answer = ask(matrix(({}, [[STOP, "1"]]), warnings=["x" * 9999] * 50))
    assert len(answer.warnings) == 21
    assert max(map(len, answer.warnings)) == 500
    assert answer.warnings[-1] == "and 30 more"


@pytest.mark.parametrize(("behaviour", "said"), [("warnings", "not whole"), ("partial", "partial")])
def test_partial_answers_are_kept_with_a_warning(
    demo_server: Served, behaviour: str, said: str
) -> None:
    with servers.faulty(demo_server.url, behaviour) as server, client(server.url) as api:
        answer = api.range("sum(up)", START, STOP, STEP)
    assert len(answer.warnings) == 1
    assert said in answer.warnings[0]
    assert np.isfinite(answer.values).all()


def test_native_histograms_are_not_lost_silently() -> None:
    body = json.loads(ONE)
    body["data"]["result"].insert(0, {"metric": {"a": "b"}, "histograms": [[TIMES[0], {}]]})
    answer = ask(json.dumps(body, separators=(",", ":")).encode())
    assert "native histogram" in answer.warnings[0]
    np.testing.assert_array_equal(answer.values, [[np.nan] * 3, [1, np.nan, 3.5]])


# --- Failures -------------------------------------------------------------------------------------


def test_unavailable_and_then_well() -> None:
    assert ask("503", "drop", "503", ONE).values[0, 0] == 1


def test_too_many_requests_waits_as_told() -> None:
    began = time.monotonic()
    assert ask("429", ONE).values[0, 0] == 1
    assert time.monotonic() - began >= 1  # Retry-After


def test_a_truncated_answer_is_asked_again(demo_server: Served) -> None:
    with servers.faulty(demo_server.url, "truncated", "pass") as server, client(server.url) as api:
        assert np.isfinite(api.range("sum(up)", START, STOP, STEP).values).all()
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("behaviour", "error", "said"),
    [
        ("500", QueryError, "HTTP 500: simulated failure"),
        ("503", QueryError, "HTTP 503: simulated failure"),
        ("429", QueryError, "HTTP 429: slow down"),
        ("error", QueryError, "HTTP 422: simulated failure"),
        ("malformed", QueryError, "the answer cannot be read"),
        ("html", QueryError, "the answer cannot be read"),
        ("drop", SourceError, "cannot be reached; see that the server runs and the URL is right"),
        ("stall", QueryError, "no answer in time; raise source.timeout"),
        (b"", QueryError, "the answer cannot be read"),
        (b"null", QueryError, "cannot be read"),
        (b'{"data":{"resultType":"vector","result":[]}}', QueryError, "say that it is a success"),
        (ONE[:-40], QueryError, "the answer cannot be read"),
        (matrix(({}, [[START, "1"]])), QueryError, "other times than it was asked for"),
        (matrix(({}, [[START + 301, "1"]])), QueryError, "other times than it was asked for"),
        (matrix(({}, [[STOP + STEP, "1"]])), QueryError, "other times than it was asked for"),
        (matrix(({}, [[STOP, "one"]])), QueryError, "the answer cannot be read"),
        (matrix(({}, [[STOP, "1", "2"]])), QueryError, "the answer cannot be read"),
        (matrix(({}, [[STOP]])), QueryError, "the answer cannot be read"),
        (matrix(({}, [[STOP, "1"], [STOP, "2"]])), QueryError, "for a time twice"),
        (matrix(({}, [[STOP, "1"], [TIMES[0], "2"]])), QueryError, "order of time"),
        (matrix(({}, [[TIMES[0], "1"], [TIMES[0], "2"], [STOP, "3"]])), QueryError, "time twice"),
        (matrix(({}, [[TIMES[0], "1"], [TIMES[1] + 7, "2"], [STOP, "3"]])), QueryError, "other ti"),
        (matrix(({}, [[STOP, "1"]]), ({}, [[STOP, "2"]])), QueryError, "one series twice"),
        (matrix(status="error", error="store gone"), QueryError, "it failed: store gone"),
        (matrix(status="partial"), QueryError, "it failed: it does not say why"),
        (matrix(warnings="all"), QueryError, "its warnings are not a list of texts"),
        (matrix(infos=[1]), QueryError, "its infos are not a list of texts"),
        (b"[" * 100_000, QueryError, "nested too deeply"),
        (b'{"status":"success","data":{"resultType":"matrix","result":' + b"[" * 99_999,
         QueryError, "nested too deeply"),
        (ONE.replace(b'"east"', b'{"b":1}'), QueryError, "a label is not a text"),
        (matrix(({}, [[STOP, "1"]]), more=math.nan), QueryError, "not finite"),
    ],
)  # fmt: skip
def test_failures_are_sentences(behaviour: Behaviour, error: type[Exception], said: str) -> None:
    options = {"timeout": 0.3} if behaviour == "stall" else {}
    attempts = 1 if behaviour in ("503", "429") else 2
    with pytest.raises(error, match=said) as caught:
        ask(behaviour, **options, attempts=attempts)
    assert len(str(caught.value).splitlines()) == 1


def test_an_answer_that_is_not_compact_is_read_too() -> None:
    for indent in (None, 1):
        answer = ask(json.dumps(json.loads(ONE), indent=indent).encode())
        np.testing.assert_array_equal(answer.values, [[1, np.nan, 3.5]])
        assert answer.labels == [{"region": "east"}]


def test_a_truncated_answer_is_never_half_an_answer(demo_server: Served) -> None:
    with (
        servers.faulty(demo_server.url, "truncated") as server,
        client(server.url) as api,
        pytest.raises(SourceError),
    ):
        api.range("up", START, STOP, STEP)


def test_server_that_is_not_there() -> None:
    with client(f"http://127.0.0.1:{servers.free_port()}") as api:
        with pytest.raises(SourceError, match="cannot be reached"):
            api.version()
        with pytest.raises(SourceError, match="cannot be reached"):
            api.range("up", START, STOP, STEP)


def test_page_that_is_no_prometheus() -> None:
    with (
        servers.faulty(None, "html", only="/") as server,
        client(server.url) as api,
        pytest.raises(SourceError, match="does not answer as a Prometheus server"),
    ):
        api.version()


def test_answer_is_parsed_again_after_an_empty_series() -> None:
    answer = ask(matrix(({"a": "1"}, []), ({"a": "2"}, [[STOP, "2"]]), ({"a": "3"}, [])))
    np.testing.assert_array_equal(answer.values[:, 2], [np.nan, 2, np.nan])


# --- Real servers ---------------------------------------------------------------------------------


def test_version(demo_server: Served) -> None:
    with client(demo_server.url) as api:
        assert (
            api.version()
            == requests.get(f"{demo_server.url}/api/v1/status/buildinfo", timeout=9).json()["data"][
                "version"
            ]
        )


@pytest.mark.parametrize(
    "query",
    [
        "sum by (region, service) (increase(http_requests_total[5m]))",
        "sum by (le, region) (increase(http_request_duration_seconds_bucket[5m]))",
        "up / 0 - up / 0",
        "-1 / (up - 1)",
        "vector(1e300) * 1e10",
        'label_replace(up, "odd", "\\"values\\":[[\\\\ \\n ☃", "", "")',
    ],
)
def test_a_real_answer_equals_plain_json(demo_server: Served, query: str) -> None:
    params: dict[str, Any] = {"query": query, "start": TIMES[0], "end": STOP, "step": STEP}
    said = requests.get(f"{demo_server.url}/api/v1/query_range", params=params, timeout=60)
    result = said.json()["data"]["result"]
    expected = np.full((len(result), 3), np.nan)
    for row, series in enumerate(result):
        for when, value in series["values"]:
            expected[row, TIMES.index(int(when))] = float(value)
    with client(demo_server.url) as api:
        answer = api.range(query, START, STOP, STEP)
    assert answer.labels == [series["metric"] for series in result]
    assert answer.labels
    np.testing.assert_array_equal(answer.values, expected)


def test_a_query_that_the_server_refuses(demo_server: Served) -> None:
    with client(demo_server.url) as api:
        with pytest.raises(QueryError, match=r"HTTP 400.*parse error"):
            api.range("sum(", START, STOP, STEP)
        with pytest.raises(QueryError, match=r"HTTP 422.*many-to-many"):
            api.range("up * up{} * on() up", START, STOP, STEP)
        assert len(api.range("up", START, STOP, STEP).labels) > 20  # and the next one answers


def test_more_points_than_a_server_answers_at_once(demo_server: Served) -> None:
    start, steps = START, 2 * MAX_POINTS + 77
    with client(demo_server.url) as api:
        answer = api.range("sum(up)", start, start + steps, 1)
        assert answer.values.shape == (1, steps)
        first = api.range("sum(up)", start, start + MAX_POINTS, 1).values
        last = api.range("sum(up)", start + steps - 99, start + steps, 1).values
    np.testing.assert_array_equal(answer.values[:, :MAX_POINTS], first)
    np.testing.assert_array_equal(answer.values[:, -99:], last)
    times = (start + 1 + np.arange(steps)).tolist()
    params: dict[str, Any] = {"query": "sum(up)", "start": times[0], "end": times[-1], "step": 1}
    split = requests.get(f"{demo_server.url}/api/v1/query_range", params=params, timeout=60)
    assert split.status_code == 400  # the server itself would have refused


def test_joining_keeps_series_apart() -> None:
    """A series that begins or ends between two pieces keeps its own row."""
    pieces = [
        prometheus.Answer([{"a": "1"}, {"a": "2"}], np.array([[1.0, 2], [3, 4]]), ["w"], 1),
        prometheus.Answer([{"a": "3"}, {"a": "2"}], np.array([[5.0], [6]]), ["w", "v"], 2),
    ]
    joined = prometheus._join(pieces)
    assert joined.labels == [{"a": "1"}, {"a": "2"}, {"a": "3"}]
    np.testing.assert_array_equal(joined.values, [[1, 2, np.nan], [3, 4, 6], [np.nan, np.nan, 5]])
    assert (joined.warnings, joined.nonfinite) == (["w", "v"], 3)


def test_too_many_samples_are_asked_for_in_parts() -> None:
    said = {"status": "error", "errorType": "execution"}
    refusal = said | {"error": "query processing would load too many samples into memory"}
    grids: list[int] = []

    with servers.faulty(None, "pass") as server, client(server.url) as api:
        real = api._grid

        def grid(query: str, first: int, last: int, step: int) -> prometheus.Answer:
            count = (last - first) // step + 1
            if count > 2:
                raise QueryError(f"HTTP 422: {refusal['error']}")
            grids.append(count)
            return real(query, first, last, step)

        api._grid = grid  # type: ignore[method-assign]
        answer = api.range("up", START, START + 7 * STEP, STEP)
    assert answer.values.shape == (0, 7)
    assert sum(grids) == 7


# --- Credentials ----------------------------------------------------------------------------------


def test_bearer_token_is_sent() -> None:
    with (
        servers.faulty(None, ONE, only="/", authorization=f"Bearer {SECRET}") as server,
        client(server.url, environ={"TARS_GA_BEARER_TOKEN": SECRET}) as api,
    ):
        assert api.range("up", START, STOP, STEP).values[0, 0] == 1


@pytest.mark.parametrize(
    "environ",
    [{}, {"TARS_GA_BEARER_TOKEN": "wrong-" + SECRET}, {"TARS_GA_USERNAME": "wrong-" + SECRET}],
)
def test_refused_credentials_are_not_repeated(environ: dict[str, str]) -> None:
    with servers.faulty(None, ONE, only="/", authorization="Bearer right") as server:
        said = r"HTTP 401.*TARS_GA_BEARER_TOKEN"
        with client(server.url, environ=environ) as api:
            with pytest.raises(SourceError, match=said) as first:
                api.version()
            with pytest.raises(SourceError, match=said) as second:
                api.range("up", START, STOP, STEP)
        assert SECRET not in f"{first.value}{second.value}"


def test_a_server_that_repeats_our_secret() -> None:
    """An error page or a warning that quotes our header must not carry it into a file."""
    secret = {"TARS_GA_BEARER_TOKEN": SECRET}

    def quoting(answer: dict[str, Any]) -> dict[str, Any]:
        return answer | {"warnings": [f"Authorization: Bearer {SECRET}"]}

    answer = ask(quoting, environ=secret)
    assert SECRET not in str(answer)
    labelled = ask(
        matrix(({SECRET: f"Bearer {SECRET}"}, [[STOP, "1"]]), infos=[SECRET]), environ=secret
    )
    assert labelled.labels == [{"…": "Bearer …"}]
    assert labelled.infos == ["…"]
    info = json.dumps({"status": "success", "data": {"version": f"2.42 {SECRET}"}}).encode()
    with servers.faulty(None, info, only="/") as server, client(server.url, environ=secret) as api:
        assert api.version() == "2.42 …"
    with pytest.raises(QueryError) as caught:
        ask(f'{{"status":"error","error":"Bearer {SECRET}"}}'.encode(), environ=secret)
    assert SECRET not in str(caught.value)


# The hash of "test" of Prometheus' own documentation.
WEB = """basic_auth_users:
  admin: $2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay
"""
TLS = """tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
"""


def make_certificates(folder: Path) -> None:
    """Make an authority, and a certificate by it for 127.0.0.1 and one for a client."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.now(UTC)
    import ipaddress

    def make(name: str, signer: tuple[Any, Any] | None) -> tuple[Any, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer, signing = (signer[0].subject, signer[1]) if signer else (subject, key)
        addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = (
            x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
            .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), True)
        )
        certificate = made.sign(signing, hashes.SHA256())
        pem = serialization.Encoding.PEM
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return certificate, key

    authority = make("ca", None)
    make("server", authority)
    make("client", authority)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Serve a Prometheus that asks for a client certificate and for basic authentication."""
    folder = tmp_path_factory.mktemp("secured")
    make_certificates(folder)
    (folder / "web.yml").write_text(TLS + WEB, encoding="utf-8")
    with servers.prometheus(folder / "data", web=folder / "web.yml") as url:
        yield url, folder


def test_client_certificate_and_basic_authentication(secured: tuple[str, Path]) -> None:
    url, folder = secured
    whole = {
        "TARS_GA_CA_BUNDLE": str(folder / "ca.pem"),
        "TARS_GA_CLIENT_CERT": str(folder / "client.pem"),
        "TARS_GA_CLIENT_KEY": str(folder / "client.key"),
        "TARS_GA_USERNAME": "admin",
        "TARS_GA_PASSWORD": "test",
    }
    with client(url, environ=whole) as api:
        assert api.version() != "unknown"
        assert api.range("vector(7)", START, STOP, STEP).values.tolist() == [[7, 7, 7]]
    for missing, said in [
        ("TARS_GA_CA_BUNDLE", "its certificate is not trusted; set TARS_GA_CA_BUNDLE"),
        ("TARS_GA_CLIENT_CERT", "127.0.0.1"),
        ("TARS_GA_PASSWORD", "it refuses our credentials"),
    ]:
        environ = {key: value for key, value in whole.items() if key != missing}
        with client(url, environ=environ) as api, pytest.raises(SourceError, match=said):
            api.version()


@pytest.mark.parametrize("name", ["TARS_GA_CA_BUNDLE", "TARS_GA_CLIENT_CERT"])
def test_certificate_files_that_are_not_there(secured: tuple[str, Path], name: str) -> None:
    environ = {name: "/nowhere.pem"}
    with client(secured[0], environ=environ) as api, pytest.raises(SourceError, match="nowhere"):
        api.version()
