"""Fixtures that several test modules share: servers that hold simulated days."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# Who starts the tests in the background lets them ignore SIGINT, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from demo import simulate  # noqa: E402
from tests import odd, servers  # noqa: E402
from tests.servers import Build, Serve, Served  # noqa: E402


@pytest.fixture(scope="session")
def blocks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a function that makes a scenario's blocks, once, however many workers ask.

    They are kept in pytest's cache until the simulator changes: making the demo's takes 10 s.
    """
    cache = request.config.cache if hasattr(request.config, "cache") else None
    root = cache.mkdir("histories") if cache else tmp_path_factory.getbasetemp().parent
    made_by = b"".join(Path(module.__file__ or "").read_bytes() for module in (simulate, servers))
    here = root / hashlib.sha256(made_by).hexdigest()[:16]

    def build(scenario: simulate.Scenario) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        with (root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for old in root.iterdir():  # what an earlier simulator made
                if old.is_dir() and cache and old != here:
                    shutil.rmtree(old)
            data = here / hashlib.sha256(repr(scenario).encode()).hexdigest()[:16]
            if not data.exists():
                _backfill(scenario, data)
        return data

    return build


def _backfill(scenario: simulate.Scenario, data: Path) -> None:
    """Simulate the days and make blocks of them; the directory appears when it is whole."""
    work = data.with_suffix(".part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    files = [work / f"{day.name}.om" for day in simulate.days(scenario)]
    for file in files:
        simulate.write(file, scenario, only=file.stem)
    servers.backfill(work / "data", *files)
    (work / "data").rename(data)
    shutil.rmtree(work)


def _serve(stack: ExitStack, build: Build, scenario: simulate.Scenario, where: Path) -> Served:
    """Start a server on its own copy of the blocks."""
    data = where / "prometheus"
    shutil.copytree(build(scenario), data)
    url = stack.enter_context(servers.prometheus(data))
    return Served(url, scenario, simulate.truth(scenario))


@pytest.fixture(scope="session")
def demo_server(blocks: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the demo's two days."""
    with ExitStack() as stack:
        yield _serve(stack, blocks, simulate.Scenario(), tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def clean_server(blocks: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve two days on which nothing goes wrong."""
    with ExitStack() as stack:
        scenario = simulate.Scenario(faults=False)
        yield _serve(stack, blocks, scenario, tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="session")
def small_server(blocks: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve two clean hours of two regions."""
    data = tmp_path_factory.mktemp("small") / "prometheus"
    shutil.copytree(blocks(simulate.small()), data)
    with servers.prometheus(data) as url:
        yield url


@pytest.fixture
def serve(blocks: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Return a function that serves any scenario until the test ends."""
    with ExitStack() as stack:
        yield lambda scenario: _serve(stack, blocks, scenario, tmp_path_factory.mktemp("variant"))


@pytest.fixture(scope="session")
def empty_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve nothing: a Prometheus without one sample."""
    with servers.prometheus(tmp_path_factory.mktemp("empty") / "prometheus") as url:
        yield url


@pytest.fixture(scope="session")
def odd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the days of `tests.odd`, when clocks changed, with names that need quoting."""
    folder = tmp_path_factory.mktemp("odd")
    servers.backfill(folder / "prometheus", *odd.write(folder))
    with servers.prometheus(folder / "prometheus") as url:
        yield url


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> float:
    """Give a replica that does not catch up less time than it has in earnest."""
    monkeypatch.setattr("tars_ga_lib.system.replication.PATIENCE", 0.5)
    return 0.5
