"""Verification: is a package what it says, whole, signed by whom we trust, and do its figures hold?

Works offline, on the archive or on a folder that it was unpacked to. A package comes from a
stranger: the archive is streamed and only hashed, nothing of it is run, and what a replay needs is
unpacked into a temporary folder after every hash was found good.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tars_ga_lib import fingerprint, made
from tars_ga_lib.decisions import Outcome, decide
from tars_ga_lib.evidence import attestation, tarball
from tars_ga_lib.evidence import package as packages
from tars_ga_lib.evidence.replay import (
    GIB,
    TOLERANCE,
    Replay,
    check_apart,
    differences,
    parsed,
    replay_apart,
)
from tars_ga_lib.evidence.tarball import ArchiveError
from tars_ga_lib.grammar import Limit, ParametersError
from tars_ga_lib.parameters import MEASURED
from tars_ga_lib.sanitise import one_line

if TYPE_CHECKING:
    from securesystemslib.signer import Key

VERIFIED, REFUSED, UNPROVEN = 0, 1, 4
"""Exit codes. UNPROVEN: nothing is wrong, but who made the package was not proven, as it is
unsigned or no key was given. It is the code of INCONCLUSIVE: missing data is never good news."""

_KEPT = {
    packages.MANIFEST: 16 << 20,
    packages.ATTESTATION: 4 << 20,
    packages.INFO: 1 << 20,
    packages.CERTIFICATION: 16 << 20,
    packages.EMAIL: 1 << 16,
}
"""Files that a verification reads, and how large they may be."""

_MOST_NAMED = 8


class Failure(NamedTuple):
    """One thing that does not hold: one line."""

    file: str
    cause: str

    def __str__(self) -> str:
        return f"{self.file}: {self.cause}"


@dataclass
class Verification:
    """What verification found: what holds, what does not, and what could not be known.

    `digests` has the SHA-256 of each file by its name, `kept` the content of some, `digest` that
    of the archive, empty for a folder.
    """

    package: Path
    holds: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    certification: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    policy: str = ""
    signed_by: str | None = None
    fingerprint: str = ""
    replay: Replay | None = None
    digests: dict[str, str] = field(default_factory=dict, repr=False)
    kept: dict[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def covered(self) -> dict[str, str]:
        """The files that the manifest covers, with their SHA-256."""
        return {n: d for n, d in self.digests.items() if n not in packages.UNCOVERED}

    @property
    def exit_code(self) -> int:
        """Exit code of `tars-ga verify`."""
        if self.failures:
            return REFUSED
        return UNPROVEN if self.unproven else VERIFIED

    def note(self, failures: Iterable[tuple[str, str]], holds: str = "") -> None:
        """Note what does not hold, as file and cause; where nothing is, that all does."""
        new = [Failure(one_line(file), cause) for file, cause in failures]
        self.failures += new
        if holds and not new:
            self.holds.append(holds)


def verify(
    path: Path,
    key: Key | None = None,
    *,
    replay: bool = False,
    tolerance: float = TOLERANCE,
    pages: bool = False,
    memory: int = GIB,
    policy: str | None = None,
) -> Verification:
    """Check a package.

    Parameters
    ----------
    path
        Its archive, a folder that it was unpacked to, or a run's folder that holds the archive.
    key
        Public key that must have signed it.
    replay
        Also compute every figure again from its recording.
    tolerance, pages, memory
        For the replay: see `tars_ga_lib.evidence.replay.replay_apart`.
    policy
        What the package must have been certified under: a digest, or the name of a file or folder
        (see `_demanded`).

    Raises
    ------
    ParametersError
        If there is nothing to read at `path`, or `policy` is none.
    """
    demanded = {} if policy is None else _demanded(policy)
    found = _opened(path, {})
    missing = [name for name in (packages.INFO, packages.CERTIFICATION) if name not in found.kept]
    if found.digests:
        found.note((name, "is missing, and a package needs it") for name in missing)
    if packages.CERTIFICATION in missing:
        return found
    _check_attestation(found, key)
    if demanded:
        given = found.digests | {_WHOLE_POLICY: found.policy}
        others = [name for name, digest in demanded.items() if given.get(name) != digest]
        found.note(
            ((name, "is not the one that is demanded (--policy)") for name in others),
            "policy: it was certified under the criteria that are demanded",
        )
    if replay and not found.failures:
        with _folder_of(found) as folder:
            found.replay = replay_apart(folder, tolerance, pages=pages, memory=memory)
        _note_replay(found, found.replay)
    return found


def locate(path: Path) -> Path:
    """Return the archive or the folder of a package that a path means.

    Raises
    ------
    ParametersError
        If there is none.
    """
    if path.is_dir():
        for folder in (path, path / "package", path / packages.ROOT):
            if (folder / packages.MANIFEST).exists():
                return folder
        if (path / packages.ARCHIVE).exists():
            return path / packages.ARCHIVE
        raise ParametersError(
            f"{path}: there is no package in it; name an archive ({packages.ARCHIVE}) or the "
            "folder with its MANIFEST.sha256"
        )
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise ParametersError(f"{path}: cannot be read ({error.strerror})") from None
    if not regular:
        raise ParametersError(f"{path}: is not a file; name an archive ({packages.ARCHIVE})")
    return path


# --- reading -------------------------------------------------------------------------------------


def _opened(path: Path, keep: Mapping[str, int]) -> Verification:
    """Read a package and see that its files are all as its manifest lists them.

    Parameters
    ----------
    keep
        Files to keep beside those that say what it is, and how large each may be.
    """
    found = Verification(locate(path))
    try:
        _read(found, {**keep, **_KEPT})
    except ArchiveError as error:
        found.digests, found.kept = {}, {}
        name = found.package.name if error.file == "archive" else error.file
        found.note([(name, error.cause)])
        return found
    except OSError as error:
        raise ParametersError(f"{found.package}: cannot be read ({error.strerror})") from None
    if found.digest:
        _check_checksum(found)
    _check_manifest(found)
    return found


def _read(found: Verification, keep: Mapping[str, int], into: Path | None = None) -> None:
    """Hash every file of a package, and keep some; unpack an archive below the folder `into`."""
    if found.package.is_dir():
        _read_folder(found, keep)
        return
    with found.package.open("rb") as raw:
        stream: Any = tarball.Hashed(raw)
        for entry in tarball.read(stream):
            name = entry.name.removeprefix(packages.ROOT)
            if name == entry.name:
                raise ArchiveError(entry.name, f"lies outside of {packages.ROOT}")
            _take(found, name, entry.size, entry.chunks(), keep, into)
        found.digest = stream.sha.hexdigest()


def _read_folder(found: Verification, keep: Mapping[str, int]) -> None:
    names, folder = tarball.Names(), found.package
    for name in made.files(folder):
        try:
            names.add(name)
            if not stat.S_ISREG((folder / name).lstat().st_mode):
                raise ArchiveError(name, "is a link or special file, not a plain file")
            # A link put there meanwhile is not followed.
            handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(handle, "rb") as stream:
                size, chunks = os.fstat(handle).st_size, tarball.chunks(stream)
                _take(found, name, size, chunks, keep)
        except ArchiveError as error:
            found.note([(error.file, error.cause)])
        except OSError as error:
            found.note([(name, f"cannot be read ({error.strerror})")])


def _take(
    found: Verification,
    name: str,
    size: int,
    chunks: Iterable[bytes],
    keep: Mapping[str, int],
    into: Path | None = None,
) -> None:
    """Hash a file; keep it, or write it below a folder, if that is asked for."""
    if size > keep.get(name, size):
        raise ArchiveError(name, f"has {size} bytes, which is too many")
    sha, kept = hashlib.sha256(), bytearray()
    with contextlib.ExitStack() as stack:
        stream = None
        if into is not None:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context((into / name).open("xb"))
        for chunk in chunks:
            sha.update(chunk)
            if stream:
                stream.write(chunk)
            if name in keep:
                kept += chunk
    found.digests[name] = sha.hexdigest()
    if name in keep:
        found.kept[name] = bytes(kept)


# --- checks --------------------------------------------------------------------------------------


def _check_checksum(found: Verification) -> None:
    """Compare the archive with the checksum file beside it, if there is one."""
    file = found.package.with_name(f"{found.package.name}.sha256")
    try:
        text = file.read_text(encoding="ascii")
    except FileNotFoundError:
        found.notes.append(f"there is no {file.name} beside it; the manifest speaks for its files")
        return
    except (OSError, ValueError):
        found.note([(file.name, "cannot be read as a checksum file")])
        return
    failures = []
    if not text.startswith(found.digest):
        failures = [(found.package.name, f"its SHA-256 is {found.digest}, not that of {file.name}")]
    elif text != f"{found.digest}  {found.package.name}\n":
        failures = [(file.name, f"is not the checksum file of {found.package.name}")]
    found.note(failures, f"archive: it is what {file.name} says")


def _check_manifest(found: Verification) -> None:
    """Compare the files with the manifest: missing, changed, extra, or listed in another way."""
    if packages.MANIFEST not in found.kept:
        cause = "is missing, so nothing says what belongs to the package"
        found.note([(packages.MANIFEST, cause)])
        return
    covered = found.covered
    try:
        listed = _parse_manifest(found.kept[packages.MANIFEST])
    except ValueError as error:
        found.note([(packages.MANIFEST, str(error))])
        return

    causes = {
        **dict.fromkeys(covered.keys() - listed, "is extra; the manifest does not list it"),
        **dict.fromkeys(listed.keys() - covered, "is missing; the manifest lists it"),
        **{
            name: "was changed; its SHA-256 is not that of the manifest"
            for name in listed.keys() & covered
            if listed[name] != covered[name]
        },
    }
    found.note(
        sorted(causes.items()),
        f"manifest: all {len(listed)} files are as listed, none is missing, changed or extra",
    )


def _parse_manifest(content: bytes) -> dict[str, str]:
    """Read a manifest that is written in the one way that packages write it."""
    listed = {}
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    for number, line in enumerate(lines, 1):
        digest, gap, name = line[:64], line[64:66], line[66:]
        if len(digest) < 64 or set(digest) - set("0123456789abcdef") or gap != "  " or not name:
            raise ValueError(f"line {number} is not a SHA-256 and a name")
        listed[name] = digest
    if packages.manifest_text(listed).encode() != content:
        raise ValueError("is not sorted, lists a file twice, or has other line ends")
    return listed


def _check_attestation(found: Verification, key: Key | None) -> None:
    """See that the attestation is about this package and policy, and who signed it."""
    name, kept, covered = packages.ATTESTATION, found.kept, found.covered
    try:
        info = parsed(kept.get(packages.INFO, b"{}"), packages.INFO)
        certification = parsed(kept[packages.CERTIFICATION], packages.CERTIFICATION)
        manifest = hashlib.sha256(kept.get(packages.MANIFEST, b"")).hexdigest()
        expected = attestation.statements(manifest, covered, certification, info)
        text = packages.email(certification, info)
        found.certification, found.policy = certification, attestation.policy_digest(covered)
        found.signed_by = info["signed_by"]
        found.fingerprint = fingerprint.of(certification)
        found.note((packages.CERTIFICATION, cause) for cause in _not_decided_so(certification))
        if kept.get(packages.EMAIL) != text.encode():
            found.note([(packages.EMAIL, "is not what follows from the certification")])
        if name not in kept:
            raise ArchiveError(name, "is missing, so nobody claims anything of the package")
        envelopes = attestation.read(kept[name])
        claims = [(name, cause) for cause in _other_claims(expected, envelopes)]
    except ArchiveError as error:
        found.note([(error.file, error.cause)])
        return
    except (LookupError, TypeError, AttributeError, ArithmeticError):
        cause = "is not a certification that this version can read"
        found.note([(packages.CERTIFICATION, cause)])
        return
    except ValueError as error:
        found.note([(name, str(error))])
        return
    found.note(
        claims, f"attestation: it names this package and its policy (SHA-256 {found.policy[:16]}…)"
    )
    _check_signatures(found, envelopes, key)


def _not_decided_so(certification: dict[str, Any]) -> Iterator[str]:
    """Yield where the decision does not follow from the verdicts, or a verdict from its value."""
    outcomes = certification["criteria"]
    follows = decide([Outcome(**outcome) for outcome in outcomes]).facts()
    for key in ("decision", "binding_criterion", "because"):
        if certification[key] != follows[key]:
            said = one_line(str(certification[key]))
            yield f"{key} is '{said}', and from the criteria follows '{one_line(follows[key])}'"
    for outcome in outcomes:
        passed = outcome["verdict"] in ("pass", "warn")
        operator, number = outcome["target"].split()
        if passed and not Limit(operator, float(number)).holds(float(outcome["value"])):
            yield (
                f"{one_line(outcome['name'])} is a {outcome['verdict']}, and its value "
                f"{outcome['value']} does not meet {one_line(outcome['target'])}"
            )


def _other_claims(
    expected: list[dict[str, Any]], envelopes: list[attestation.Envelope]
) -> Iterator[str]:
    """Yield where the statements are not those that follow from the package's files."""
    if len(envelopes) != len(expected):
        yield f"holds {len(envelopes)} statements instead of {len(expected)}"
    for statement, envelope in zip(expected, envelopes, strict=False):
        if envelope.payload == attestation.payload(statement):
            continue
        kind = statement["predicateType"].rpartition("/")[0].rpartition("/")[2]
        given = parsed(envelope.payload, packages.ATTESTATION)
        paths = [path for path, _, _ in differences(Replay(tolerance=0), given, statement)]
        for path in paths or ["its form"]:
            yield f"{kind}: {one_line(path)} is not what follows from the package's files"


def _check_signatures(
    found: Verification, envelopes: list[attestation.Envelope], key: Key | None
) -> None:
    name = packages.ATTESTATION
    signed = bool(envelopes) and all(envelope.signatures for envelope in envelopes)
    causes = []
    if any(envelope.signatures for envelope in envelopes) and not signed:
        causes.append("is signed in part only")
    if not signed and found.signed_by:
        causes.append(f"is unsigned, although {packages.INFO} says that a key signed it")
    if signed and any(e.signatures[0]["keyid"] != found.signed_by for e in envelopes):
        causes.append(f"is signed by another key than {packages.INFO} says")
    if key is not None:
        if not signed:
            causes.append("is unsigned, and a key was given that must have signed it")
        elif all(attestation.signed_by(envelope, key) for envelope in envelopes):
            found.holds.append(f"signature: it is by the key {key.keyid}")
        else:
            causes.append(f"is not signed by the given key ({key.keyid})")
    elif signed:
        found.unproven.append(
            f"{name}: it says it is signed by the key {one_line(str(found.signed_by))}; that was "
            "NOT CHECKED: give the public key with --key"
        )
    else:
        found.unproven.append(
            f"{name}: the package is UNSIGNED: nothing proves who made it, and whoever changed a "
            "file could have changed the manifest too"
        )
    found.note((name, cause) for cause in causes)


_WHOLE_POLICY = "parameters"


def _demanded(text: str) -> dict[str, str]:
    """Return the SHA-256 of each file that is demanded, or of the whole under `_WHOLE_POLICY`."""
    digest = text.removeprefix("sha256:").lower()
    if len(digest) == 64 and not set(digest) - set("0123456789abcdef"):
        return {_WHOLE_POLICY: digest}
    path = Path(text)
    files = {"parameters/criteria.yaml": path}
    if path.is_dir():
        there = [f"parameters/{file.name}" for file in path.glob("*.yaml")]
        files = {name: path / Path(name).name for name in attestation.policy_files(there)}
    try:
        return {n: hashlib.sha256(file.read_bytes()).hexdigest() for n, file in files.items()}
    except OSError as error:
        raise ParametersError(
            f"--policy {text}: cannot be read ({error.strerror}); give a digest of 64 digits, a "
            "criteria file, or a folder with criteria.yaml, drift_rules.yaml and kpis.yaml"
        ) from None


def _note_replay(found: Verification, result: Replay) -> None:
    before = len(found.failures)
    found.note(result.problems())
    if not result.files or result.more or any(f.file in result.files for f in found.failures):
        return
    how = (
        f"within {result.tolerance:g} (the largest difference is {result.largest:.1g})"
        if result.largest
        else "to the last digit"
    )
    found.holds.append(
        f"replay: {result.figures:,} figures and {result.texts:,} other values of "
        f"{len(result.files)} files follow from the recording, {how}"
    )
    if not result.pages:
        found.notes.append(result.no_pages)
    elif len(found.failures) == before:
        found.holds.append(
            f"pages: all {len(result.pages)} files of the report are what its run renders"
        )
    if others := _not_compared(found.digests, result):
        more = len(others) - _MOST_NAMED
        names = [*map(one_line, others[:_MOST_NAMED]), *([f"{more} more"] if more > 0 else [])]
        found.notes.append(f"as packed, and NOT compared with what a run makes: {', '.join(names)}")
    if not result.same_software:
        found.notes.append("the package was made with other versions than this replay")


def _not_compared(names: Iterable[str], result: Replay) -> list[str]:
    """Return the files that are neither what figures rest on nor compared with what is made of it.

    Results of the validation and the watched sessions are judged anew, and the e-mail's text, the
    manifest and the attestation were compared before.
    """
    known = {*_KEPT, *result.pages, *result.files, *MEASURED.values()}
    others = (name for name in names if not {name, name.removeprefix("artifacts/")} & known)
    return sorted(name for name in others if not name.startswith(("recording/", "parameters/")))


# --- for those who use a package -----------------------------------------------------------------


def sound(path: Path, keep: Mapping[str, int]) -> Verification:
    """Read a package whose files are all as its manifest lists them.

    Parameters
    ----------
    keep
        Files whose content is wanted, and how large each may be.

    Raises
    ------
    ParametersError
        If it is not whole.
    """
    found = _opened(path, keep)
    if found.failures:
        more = f" (and {len(found.failures) - 1} more)" if found.failures[1:] else ""
        raise ParametersError(f"{found.package}: {found.failures[0]}{more}; take an undamaged copy")
    return found


@contextlib.contextmanager
def _folder_of(found: Verification) -> Iterator[Path]:
    """Give the folder of a package that was found good; an archive's is temporary."""
    package = found.package
    if package.is_dir():
        yield package
        return
    with tempfile.TemporaryDirectory(prefix="tars-ga-") as folder:
        again = Verification(package)
        try:
            with contextlib.suppress(ArchiveError):  # its digest stays empty then
                _read(again, {}, Path(folder))
        except OSError as error:
            raise ParametersError(
                f"{package}: cannot be unpacked into {folder} ({error.strerror}); make room there, "
                "or set TMPDIR to another folder"
            ) from None
        if again.digest != found.digest:
            raise ParametersError(f"{package}: changed while it was read; try again")
        yield Path(folder)


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Give the folder of a package whose files are all as its manifest lists them.

    An archive is unpacked into a temporary folder, which is gone afterwards.

    Raises
    ------
    ParametersError
        If the package is not whole, or its parameters hold what no run writes.
    """
    with _folder_of(sound(path, {})) as folder:
        try:
            check_apart(folder)
        except (ArchiveError, OSError) as error:
            raise ParametersError(f"{path}: {error}") from None
        yield folder
