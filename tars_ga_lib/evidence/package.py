"""The evidence package: a finished run as one archive that anyone can check.

```
ga_certification/package/
    GA_DAY_REPORT.md (.pdf, .html)  GA_DAY_APPENDIX.pdf (.html)  EMAIL_SUMMARY.txt
    ga_kpi_summary.json  drift_analysis.json  cross_region.json  slo.json
    validation_results.json (.xml, .html)  ws_health_metrics.json  certification_metadata.json
    recording/  parameters/  notebooks/  artifacts/
    MANIFEST.sha256           SHA-256 of every file but itself and the attestation
    attestation.intoto.jsonl  what is claimed of them, and who claims it
```

The archive is packed straight from the run's folder and lies in it, with its checksum beside it.
The same run gives the same bytes, whoever packs it, where and when: entries are sorted, and their
time is `SOURCE_DATE_EPOCH` (https://reproducible-builds.org/specs/source-date-epoch/) or else the
end of the window.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from tars_ga_lib import __version__, atomic, fingerprint, made, strict
from tars_ga_lib.channels import LOG
from tars_ga_lib.display import clean
from tars_ga_lib.evidence import attestation, tarball
from tars_ga_lib.grammar import ParametersError, format_time, interval_text, parse_time
from tars_ga_lib.wording import criteria_rows, why

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

ROOT = "ga_certification/package/"
ARCHIVE = "ga_certification_package.tar.gz"
MANIFEST = "MANIFEST.sha256"
ATTESTATION = "attestation.intoto.jsonl"
EMAIL = "EMAIL_SUMMARY.txt"
INFO = "artifacts/package.json"
CERTIFICATION = "certification_metadata.json"

DERIVED = (
    "ga_kpi_summary.json",
    "drift_analysis.json",
    "cross_region.json",
    "slo.json",
    CERTIFICATION,
)
"""Files that name the recording and the parameters that they were derived from."""

REPORTS = (
    *("GA_DAY_REPORT.md", "GA_DAY_REPORT.pdf", "GA_DAY_REPORT.html"),
    *("GA_DAY_APPENDIX.pdf", "GA_DAY_APPENDIX.html"),
)
REQUIRED = (*DERIVED, *REPORTS, "parameters/run.yaml", "recording/recording.json")
EXPECTED = (
    "ws_health_metrics.json",
    "validation_results.html",
    "validation_results.json",
    "validation_results.xml",
)
"""Files that a package may be without; it then says so."""

UNCOVERED = frozenset({MANIFEST, ATTESTATION})
"""Files that the manifest does not cover: itself and the signature."""

_AT_TOP = frozenset({*DERIVED, *REPORTS, *EXPECTED, "ga_kpi_summary.json.sha256"})
_FOLDERS = ("recording", "parameters", "notebooks", "artifacts")
_MADE_HERE = frozenset({ARCHIVE, f"{ARCHIVE}.sha256", MANIFEST, ATTESTATION, EMAIL, INFO, LOG})
_PRIVATE = b"PRIVATE KEY-----"


@dataclass(frozen=True)
class Package:
    """A package that was built: its archive, the archive's SHA-256, and who signed it."""

    archive: Path
    digest: str
    signed_by: str | None


def build(run: Path, signer: Signer | None = None) -> Package:
    """Pack a finished run: write its archive, checksum and e-mail summary into its folder.

    Parameters
    ----------
    run
        The run's folder.
    signer
        Who signs the attestation; nobody if not given, and the package says so.

    Raises
    ------
    ParametersError
        If the run is not whole, or its files do not belong together.
    OSError
        If the package cannot be written; the earlier one stays.
    """
    if not run.is_dir():
        raise ParametersError(f"{run}: is not a folder; name that of a finished run")
    files = members(run)
    certification = _belong_together(run, files)
    given = source_date()
    time = parse_time(certification["window"]["end"]) if given is None else given
    signed_by = signer.public_key.keyid if signer else None
    info = {
        "schema": "tars-ga/package/1",
        "time": format_time(time),
        "software": f"tars-ga {__version__}",
        "signed_by": signed_by,
        "absent": [name for name in EXPECTED if name not in files],
    }
    text = email(certification, info).encode()
    contents = {INFO: (json.dumps(info, indent=2, ensure_ascii=False) + "\n").encode(), EMAIL: text}
    target, checksum = run / ARCHIVE, run / f"{ARCHIVE}.sha256"
    # Never an archive beside the checksum of another, whenever this is killed.
    with atomic.file(target, instead_of=checksum) as stream:
        try:
            digest = _pack(stream, time, {**files, **contents}, certification, info, signer)
        except tarball.ArchiveError as error:
            raise ParametersError(f"{run}: cannot be packed: {error}") from None
    for file, content in ((checksum, f"{digest}  {ARCHIVE}\n".encode()), (run / EMAIL, text)):
        with atomic.file(file) as stream:
            stream.write(content)
    return Package(target, digest, signed_by)


def _pack(
    stream: IO[bytes],
    time: int,
    contents: Mapping[str, Path | bytes],
    certification: Mapping[str, Any],
    info: Mapping[str, Any],
    signer: Signer | None,
) -> str:
    """Write a package's archive and return its SHA-256.

    Each file is read once: it is hashed while it is packed, so what the manifest says is what the
    archive holds, even if the file changes meanwhile.
    """
    writer = tarball.Writer(stream, time)

    def add(name: str, content: Path | bytes) -> str:
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
            if _PRIVATE in source.read(100):
                raise ParametersError(
                    f"{content!s}: is a private key, and must not go into a package; take it out "
                    "of the run's folder"
                )
            size = source.seek(0, os.SEEK_END)
            source.seek(0)
            return writer.add(ROOT + name, size, source)

    digests = {name: add(name, contents[name]) for name in sorted(contents, key=str.encode)}
    manifest = manifest_text(digests).encode()
    add(MANIFEST, manifest)
    statements = attestation.statements(
        hashlib.sha256(manifest).hexdigest(), digests, certification, info
    )
    add(ATTESTATION, attestation.bundle(statements, signer))
    return writer.close()


def manifest_text(digests: Mapping[str, str]) -> str:
    """Write the manifest as `sha256sum` does, sorted by the bytes of the path."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests, key=str.encode))


# --- what goes in --------------------------------------------------------------------------------


def members(run: Path) -> dict[str, Path]:
    """Return the files of a run's folder by their path in the package; hidden ones stay out.

    What SPEC has no place of its own for goes into `artifacts`.

    Raises
    ------
    ParametersError
        If there is a link or special file, whose content another machine would not have.
    """
    found = {}
    for name in made.files(run):
        top, *inner = name.split("/")
        if name in _MADE_HERE or any(part.startswith(".") for part in (top, *inner)):
            continue
        if not stat.S_ISREG((run / name).lstat().st_mode):
            raise ParametersError(
                f"{run / name}: is a link or special file, which a package cannot hold; put the "
                "file itself there"
            )
        placed = name in _AT_TOP or (inner and top in _FOLDERS)
        found[name if placed else f"artifacts/{name}"] = run / name
    return found


def _belong_together(run: Path, files: Mapping[str, Path]) -> dict[str, Any]:
    """See that the run is whole and of one piece, and return its certification."""
    for name in REQUIRED:
        if name not in files:
            raise ParametersError(
                f"{run / name}: is missing, so there is no finished run to pack; finish it with "
                "'tars-ga run'"
            )
    recording = _read_json(run / "recording/recording.json").get("digest")
    wanted = {"recording": recording, "parameters": parameters_digest(run / "parameters")}
    for name in DERIVED:
        document = _read_json(run / name)
        if document.get("derived_from") != wanted:
            raise ParametersError(
                f"{run / name}: was derived from another recording or other parameters than the "
                "run holds now; run its notebook again"
            )
    return document  # the certification is the last of them


def _read_json(file: Path) -> dict[str, Any]:
    try:
        document = strict.loads(file.read_bytes())
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ParametersError(f"{file}: is not a JSON document; run its notebook again")
    return document


def parameters_digest(folder: Path) -> str:
    """SHA-256 of a run's file with all that it names, as `derived_from` has it."""
    sha = hashlib.sha256()
    for file in sorted(folder.glob("*.yaml")):
        sha.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return "sha256:" + sha.hexdigest()


def source_date() -> int | None:
    """Return the time that `SOURCE_DATE_EPOCH` sets, in epoch seconds, if it does.

    Raises
    ------
    ParametersError
        If it is none.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 10):
        raise ParametersError(
            f"SOURCE_DATE_EPOCH={given}: is not a time; give seconds since 1970, like 1795219200"
        )
    return int(given)


# --- the e-mail ----------------------------------------------------------------------------------

_WIDTH = 78
_LINES = 24
_MARKS = {"pass": "pass", "warn": "warn", "fail": "FAIL", "no_data": "NO DATA"}


def email(certification: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """Write what a release manager needs to know on one screen of 80 by 24, whatever there is.

    What decides comes first; what there is no room for is counted.

    Parameters
    ----------
    certification, info
        Content of `certification_metadata.json` and of `artifacts/package.json`.
    """
    release, window = certification["release"], certification["window"]
    decision, outcomes = certification["decision"], certification["criteria"]
    start, end = parse_time(window["start"]), parse_time(window["end"])
    digest = (release["digest"] or "").removeprefix("sha256:")
    digest = digest or "NO DATA: no digest was given, so any build may be meant"
    name = _short(f"{release['name']} {release['version']}", _WIDTH - 2 - len(decision))
    head = [f"{name}: {decision}", *_wrapped("", why(certification), 3)]
    if certification["simulated"]:
        head.append("The data is SIMULATED: this certifies nothing real.")
    head += ["", f"Window       {interval_text(start, end)}", *_wrapped("Release      ", digest, 1)]
    foot = _wrapped("Not in it    ", ", ".join(info["absent"]), 2) if info["absent"] else []
    recording = certification["derived_from"]["recording"].removeprefix("sha256:")
    signed_by = info["signed_by"]
    signature = "NONE. The package is unsigned: nothing proves who made it."
    if signed_by:
        signature = f"by the key {signed_by[:16]}…; get the public key another way"
    foot += [
        f"Recording    {recording}",
        f"Fingerprint  {fingerprint.of(certification)}",
        *_wrapped("Signature    ", signature, 1),
        f"Verify       sha256sum -c {ARCHIVE}.sha256",
        f"             tars-ga verify {ARCHIVE}{' --key KEY' if signed_by else ''} --replay",
    ]
    waivers = [
        f"Waived       {_short(o['title'], 24)} by {_short(w['who'], 24)} until {w['until'][:10]}"
        for o in outcomes
        if (w := o["waiver"])
    ]
    waivers = _fitting(waivers, 3, "waivers")
    room = _LINES - len(head) - len(waivers) - len(foot) - 2
    criteria = _fitting(_criteria_lines(outcomes), room, "criteria")
    return "\n".join([*head, "", *criteria, *waivers, "", *foot]) + "\n"


def _fitting(lines: list[str], room: int, what: str) -> list[str]:
    """Keep the first lines, as many as there is room for, and count the others in the last."""
    if len(lines) <= room:
        return lines
    return [*lines[: room - 1], f"and {len(lines) - room + 1} more {what} in {CERTIFICATION}"]


def _wrapped(head: str, text: str, most: int) -> list[str]:
    """Break a text into lines of the screen's width, no more than `most`."""
    text = clean(text).replace("\u00a0", " ")
    width = _WIDTH if cell_len(text) == len(text) else _WIDTH // 2
    indent = " " * len(head)
    lines = textwrap.wrap(text, width, initial_indent=head, subsequent_indent=indent,
                          max_lines=most, placeholder=" …")  # fmt: skip
    return lines or [head.rstrip()]


def _criteria_lines(outcomes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write a line a criterion, the mandatory first, and those that decide before the others."""
    lines = []
    for row in sorted(criteria_rows(outcomes), key=lambda row: row.gravity):
        mark = "waived" if row.waived else _MARKS[row.verdict]
        optional = "" if row.mandatory else " (optional)"
        title = set_cell_size(_short(row.title, 43 - len(optional)) + optional, 43)
        text = f"{mark:<8} {title} {row.value:>10}  {row.target}".replace("\u00a0", " ")
        lines.append(_short(text.rstrip(), _WIDTH))
    return lines


def _short(text: object, most: int) -> str:
    """Shorten a text from data to so many columns of a screen; some letters take two."""
    string = clean(text)
    return string if cell_len(string) <= most else set_cell_size(string, most - 1) + "…"
