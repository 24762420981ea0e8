"""The evidence package: a finished run as one archive that anyone can check.

```
ga_certification/package/
    GA_DAY_REPORT.md  GA_DAY_REPORT.pdf  GA_DAY_REPORT.html  EMAIL_SUMMARY.txt
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
import json
import os
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from tars_ga_lib import __version__, atomic, fingerprint, strict
from tars_ga_lib.channels import LOG
from tars_ga_lib.display import clean
from tars_ga_lib.evidence import attestation, tarball
from tars_ga_lib.evidence.tarball import ArchiveError
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

REPORTS = ("GA_DAY_REPORT.md", "GA_DAY_REPORT.pdf", "GA_DAY_REPORT.html")
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
    try:
        return _build(run, signer)
    except ArchiveError as error:
        raise ParametersError(f"{run}: cannot be packed: {error}") from None


def _build(run: Path, signer: Signer | None) -> Package:
    files = members(run)
    certification = _belong_together(run, files)
    time = _time(certification)
    signed_by = signer.public_key.keyid if signer else None
    info = {
        "schema": "tars-ga/package/1",
        "time": format_time(time),
        "software": f"tars-ga {__version__}",
        "signed_by": signed_by,
        "absent": [name for name in EXPECTED if name not in files],
    }
    made = {INFO: _json(info), EMAIL: email(certification, info).encode()}
    target, checksum = run / ARCHIVE, run / f"{ARCHIVE}.sha256"
    # Never an archive beside the checksum of another, whenever this is killed.
    with atomic.file(target, instead_of=checksum) as stream:
        digest = pack(stream, files, made, time, certification, info, signer)
    for file, content in (
        (checksum, f"{digest}  {ARCHIVE}\n".encode()),
        (run / EMAIL, made[EMAIL]),
    ):
        with atomic.file(file) as stream:
            stream.write(content)
    return Package(target, digest, signed_by)


def pack(
    stream: IO[bytes],
    files: Mapping[str, Path],
    made: Mapping[str, bytes],
    time: int,
    certification: Mapping[str, Any],
    info: Mapping[str, Any],
    signer: Signer | None = None,
) -> str:
    """Write a package's archive and return its SHA-256.

    Each file is read once: it is hashed while it is packed, so what the manifest says is what the
    archive holds, even if the file changes meanwhile.

    Parameters
    ----------
    files, made
        What goes in, by its path in the package: files, and content made here.
    time
        Epoch seconds of all entries.
    certification, info
        Content of `certification_metadata.json` and of `artifacts/package.json`.
    """
    writer = tarball.Writer(stream, time)
    digests = {}
    for name in sorted([*files, *made], key=str.encode):
        size, chunks = _content(name, files, made)
        digests[name] = writer.add(ROOT + name, size, chunks)
    manifest = manifest_text(digests).encode()
    statements = attestation.statements(
        hashlib.sha256(manifest).hexdigest(), digests, certification, info
    )
    for name, content in (
        (MANIFEST, manifest),
        (ATTESTATION, attestation.bundle(statements, signer)),
    ):
        writer.add(ROOT + name, len(content), [content])
    return writer.close()


def _content(
    name: str, files: Mapping[str, Path], made: Mapping[str, bytes]
) -> tuple[int, Iterable[bytes]]:
    if name in made:
        return len(made[name]), [made[name]]
    return files[name].stat().st_size, _chunks(files[name])


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        first = stream.read(tarball.CHUNK)
        if _PRIVATE in first[:100]:
            raise ParametersError(
                f"{file}: is a private key, and must not go into a package; take it out of the "
                "run's folder"
            )
        yield first
        while chunk := stream.read(tarball.CHUNK):
            yield chunk


def _json(document: object) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def manifest_text(digests: Mapping[str, str]) -> str:
    """Write the manifest as `sha256sum` does, sorted by the bytes of the path."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests, key=str.encode))


# --- what goes in --------------------------------------------------------------------------------


def place(name: str) -> str:
    """Return where a file of a run's folder stands in its package.

    What SPEC has no place of its own for goes into `artifacts`.
    """
    known = name in _AT_TOP or PurePosixPath(name).parts[0] in _FOLDERS
    return name if known else f"artifacts/{name}"


def members(run: Path) -> dict[str, Path]:
    """Return the files of a run's folder by their path in the package; hidden ones stay out.

    Raises
    ------
    ParametersError
        If there is a link or special file, whose content another machine would not have.
    """
    found = {}
    for name, file in _walk(run, PurePosixPath()):
        if name not in _MADE_HERE:
            found[place(name)] = file
    return found


def _walk(folder: Path, inside: PurePosixPath) -> Iterator[tuple[str, Path]]:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        path = Path(entry.path)
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path, inside / entry.name)
        elif entry.is_file(follow_symlinks=False):
            yield str(inside / entry.name), path
        else:
            raise ParametersError(
                f"{path}: is a link or special file, which a package cannot hold; put the file "
                "itself there"
            )


def _belong_together(run: Path, files: Mapping[str, Path]) -> dict[str, Any]:
    """See that the run is whole and of one piece, and return its certification."""
    for name in REQUIRED:
        if name not in files:
            raise ParametersError(
                f"{run / name}: is missing, so there is no finished run to pack; finish it with "
                "'tars-ga run'"
            )
    documents = {name: _read_json(files[name]) for name in DERIVED}
    recording = _read_json(files["recording/recording.json"]).get("digest")
    for name, document in documents.items():
        if document.get("derived_from") != {
            "recording": recording,
            "parameters": parameters_digest(run / "parameters"),
        }:
            raise ParametersError(
                f"{run / name}: was derived from another recording or other parameters than the "
                "run holds now; run its notebook again"
            )
    return documents[CERTIFICATION]


def _read_json(file: Path) -> dict[str, Any]:
    try:
        document = strict.loads(file.read_bytes())
        if isinstance(document, dict):
            return document
    except ValueError:
        pass
    raise ParametersError(f"{file}: is not a JSON document; run its notebook again")


def parameters_digest(folder: Path) -> str:
    """SHA-256 of a run's file with all that it names, as `derived_from` has it."""
    sha = hashlib.sha256()
    for file in sorted(folder.glob("*.yaml")):
        sha.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return "sha256:" + sha.hexdigest()


def _time(certification: Mapping[str, Any]) -> int:
    """Return the time of all entries."""
    given = source_date()
    return parse_time(certification["window"]["end"]) if given is None else given


def source_date() -> int | None:
    """Return the time that the environment sets, if it does.

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
    name = f"{release['name']} {release['version']}"
    head = [f"{_short(name, _WIDTH - 2 - len(certification['decision']))}: "
            f"{certification['decision']}"]  # fmt: skip
    head += _wrapped("", why(certification), 3)
    if certification["simulated"]:
        head.append("The data is SIMULATED: this certifies nothing real.")
    start, end = parse_time(window["start"]), parse_time(window["end"])
    digest = (release["digest"] or "").removeprefix("sha256:")
    digest = digest or "NO DATA: no digest was given, so any build may be meant"
    head += ["", f"Window       {interval_text(start, end)}", *_wrapped("Release      ", digest, 1)]
    foot = _wrapped("Not in it    ", ", ".join(info["absent"]), 2) if info["absent"] else []
    recording = certification["derived_from"]["recording"].removeprefix("sha256:")
    foot += [f"Recording    {recording}", f"Fingerprint  {fingerprint.of(certification)}"]
    foot += _wrapped("Signature    ", _signature_text(info["signed_by"]), 1)
    key = " --key KEY" if info["signed_by"] else ""
    foot += [f"Verify       sha256sum -c {ARCHIVE}.sha256"]
    foot += [f"             tars-ga verify {ARCHIVE}{key} --replay"]
    waivers = _fitting(_waiver_lines(certification["criteria"]), 3, "waivers")
    room = _LINES - len(head) - len(waivers) - len(foot) - 2
    criteria = _fitting(_criteria_lines(certification["criteria"]), room, "criteria")
    return "\n".join([*head, "", *criteria, *waivers, "", *foot]) + "\n"


def _signature_text(keyid: str | None) -> str:
    if keyid:
        return f"by the key {keyid[:16]}…; get the public key another way"
    return "NONE. The package is unsigned: nothing proves who made it."


def _fitting(lines: list[str], room: int, what: str) -> list[str]:
    """Keep the first lines, as many as there is room for, and count the others in the last."""
    if len(lines) <= room:
        return lines
    return [*lines[: room - 1], f"and {len(lines) - room + 1} more {what} in {CERTIFICATION}"]


def _wrapped(head: str, text: str, most: int) -> list[str]:
    """Break a text into lines of the screen's width, no more than `most`."""
    text = clean(text).replace("\u00a0", " ")
    lines = textwrap.wrap(text, _WIDTH // (1 if _columns(text) == len(text) else 2),
                          initial_indent=head, subsequent_indent=" " * len(head))  # fmt: skip
    if len(lines) > most:
        lines = [*lines[: most - 1], _short(f"{lines[most - 1]} …", _WIDTH)]
        lines[-1] = lines[-1] if lines[-1].endswith("…") else f"{lines[-1][:-1]}…"
    return lines or [head.rstrip()]


def _waiver_lines(outcomes: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"Waived       {_short(o['title'], 24)} by {_short(w['who'], 24)} until {w['until'][:10]}"
        for o in outcomes
        if (w := o["waiver"])
    ]


def _criteria_lines(outcomes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write a line a criterion, the mandatory first, and those that decide before the others."""
    lines = []
    for row in sorted(criteria_rows(outcomes), key=lambda row: row.gravity):
        mark = "waived" if row.waived else _MARKS[row.verdict]
        optional = "" if row.mandatory else " (optional)"
        title = _padded(_short(row.title, 43 - len(optional)) + optional, 43)
        text = f"{mark:<8} {title} {row.value:>10}  {row.target}".replace("\u00a0", " ")
        lines.append(_short(text.rstrip(), _WIDTH))
    return lines


def _columns(text: str) -> int:
    """Columns that a text takes on a screen: letters of East Asia take two, marks none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _short(text: object, most: int) -> str:
    """Shorten a text from data to so many columns of a screen."""
    string = clean(text)
    if _columns(string) <= most:
        return string
    while _columns(string) > most - 1:
        string = string[:-1]
    return f"{string}…"


def _padded(text: str, columns: int) -> str:
    return text + " " * (columns - _columns(text))
