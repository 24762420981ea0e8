"""Parts that are installed only where they are wanted, and what to say where they are not."""

from __future__ import annotations

import importlib.util

EXTRAS = {
    "psycopg": "system",
    "pytest": "system",
    "pytest_html": "system",
    "redis": "system",
    "websockets": "system",
    "apprise": "live",
    "cryptography": "sign",
    "securesystemslib": "sign",
}
"""Extra of the distribution that brings a package, by the name that is imported."""


def missing(*packages: str) -> str:
    """Return what to say if one of these packages is not installed; empty if all are."""
    for name in packages:
        if importlib.util.find_spec(name) is None:
            return _sentence(name)
    return ""


def why(error: ImportError) -> str:
    """Return what to say of a failed import; empty if no extra brings the package."""
    name = (error.name or "").partition(".")[0]
    return _sentence(name) if name in EXTRAS else ""


def _sentence(name: str) -> str:
    return f"{name} is not installed; run: pip install 'tars-ga[{EXTRAS[name]}]'"
