"""What the receiver of a package sees: an executed notebook that JupyterLab does not trust."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from selenium.webdriver.support.ui import WebDriverWait

from tests import executed, packages, wide
from tests.browsing import chromium
from tests.servers import free_port

TOKEN = "of-a-test"
PICTURES = """return [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output img')]
    .map(e => [e.getAttribute('src').slice(0, 22), e.naturalWidth])"""


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a notebook as it was executed somewhere else."""
    folder = tmp_path_factory.mktemp("lab") / "run"
    wide.write(folder, wide.regions(3), wide.services(2), wide.FOUR_HOURS)
    packages.finish(folder)
    with pytest.MonkeyPatch.context() as patch:
        return executed.execute("03_cross_region", folder, patch)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """Serve a folder by JupyterLab, with a configuration of its own; yield its address."""
    port = free_port()
    home = tmp_path / "home"
    home.mkdir()
    env = os.environ | {
        "HOME": str(home), "JUPYTER_CONFIG_DIR": str(home), "JUPYTER_DATA_DIR": str(home),
        "JUPYTER_RUNTIME_DIR": str(home), "IPYTHONDIR": str(home),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
        f"--notebook-dir={tmp_path}", "--LabApp.news_url=None",
    ]  # fmt: skip
    with (tmp_path / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield f"http://127.0.0.1:{port}/lab"
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # its kernel too, which a plain end waits for
            server.wait()


def wait_for_server(address: str) -> None:
    import requests
    from tenacity import retry, stop_after_delay, wait_fixed

    @retry(stop=stop_after_delay(120), wait=wait_fixed(0.3), reraise=True)
    def ask() -> None:
        requests.get(f"{address}?token={TOKEN}", timeout=30).raise_for_status()

    ask()


def test_an_untrusted_notebook_shows_its_pictures(
    lab: str, notebook: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    count = sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )
    assert count >= 3
    nbformat.write(notebook, tmp_path / "executed.ipynb")
    wait_for_server(lab)
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        browser.set_window_size(1200, 12000)  # JupyterLab draws what is in sight
        browser.get(f"{lab}/tree/executed.ipynb?token={TOKEN}")
        WebDriverWait(browser, 120).until(lambda b: len(b.execute_script(PICTURES)) >= count)
        pictures = browser.execute_script(PICTURES)
        said = browser.execute_script(
            "return [...document.querySelectorAll('.jp-Notebook pre')].map(e => e.textContent)"
        )
    assert [kind for kind, _ in pictures] == ["data:image/png;base64,"] * count
    assert all(width > 600 for _, width in pictures)
    # and none of them as a paragraph of text
    assert not [text for text in said if "Line chart" in text]
