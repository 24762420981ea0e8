"""The fingerprint of a certification: what a reader of a printed page checks it by.

It is the SHA-256 of a few lines that name the release, the decision, and the digests of all that it
rests on: the recording, the parameters, and what was measured on the running system:

```
tars-ga/fingerprint/1
T.A.R.S. v1.0.1
NOT CERTIFIED
recording sha256:4221…295c
parameters sha256:9c3b…7a01
validation sha256:07de…11f0
websocket none
```

The QR code of the report holds these lines, so whoever scans a page has what it claims. To check
it, take `certification_metadata.json` from a package that `tars-ga verify` found to be whole; it
holds the same facts, and nothing but `jq` and `sha256sum` is needed (`COMMAND`). The digest of
the package cannot be among them: the report is inside the package.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any

SCHEMA = "tars-ga/fingerprint/1"

COMMAND = (
    'jq -r \'"tars-ga/fingerprint/1\\n" + .release.name + " " + .release.version + "\\n" + '
    '.decision + "\\nrecording " + .derived_from.recording + "\\nparameters " + '
    '.derived_from.parameters + "\\nvalidation " + (.measured.validation.sha256 // "none") + '
    '"\\nwebsocket " + (.measured.websocket.sha256 // "none")\' '
    "certification_metadata.json | sha256sum"
)
"""What a reader types to have the fingerprint of a package's certification."""


def lines(certification: Mapping[str, Any]) -> str:
    """Write the lines that are hashed, the last with its line end.

    Parameters
    ----------
    certification
        Content of `certification_metadata.json`.
    """
    release, derived = certification["release"], certification["derived_from"]
    measured = {
        kind: facts["sha256"] or "none" for kind, facts in certification["measured"].items()
    }
    return (
        f"{SCHEMA}\n{release['name']} {release['version']}\n{certification['decision']}\n"
        f"recording {derived['recording']}\nparameters {derived['parameters']}\n"
        f"validation {measured['validation']}\nwebsocket {measured['websocket']}\n"
    )


def short(text: str) -> str:
    """Return the fingerprint of these lines as it is printed: `a1b2-c3d4-e5f6-0718`."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return "-".join(digest[i : i + 4] for i in range(0, 16, 4))


def of(certification: Mapping[str, Any]) -> str:
    """Return the fingerprint of a certification as it is printed."""
    return short(lines(certification))


def qr_svg(text: str) -> str:
    """Draw a QR code of the lines as SVG, dark on white; empty if they are too long for one."""
    import segno  # only the reports draw

    try:
        code = segno.make(text, error="m", micro=False, boost_error=False)
    except segno.DataOverflowError:
        return ""
    drawn = io.BytesIO()
    code.save(drawn, kind="svg", border=4, light="#fff", omitsize=True, xmldecl=False, nl=False,
              svgclass=None, lineclass=None)  # fmt: skip
    return drawn.getvalue().decode().replace("<svg ", '<svg shape-rendering="crispEdges" ', 1)
