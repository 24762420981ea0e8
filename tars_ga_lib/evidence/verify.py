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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from tars_ga_lib import fingerprint, sanitise, strict
from tars_ga_lib.decisions import Outcome, decide
from tars_ga_lib.evidence import attestation, replay, tarball
from tars_ga_lib.evidence import package as evidence
from tars_ga_lib.evidence.tarball import ArchiveError, printable
from tars_ga_lib.grammar import Limit, ParametersError

if TYPE_CHECKING:
    from securesystemslib.signer import Key

    from tars_ga_lib.evidence.replay import Replay

VERIFIED, REFUSED, UNREADABLE, UNPROVEN = 0, 1, 2, 4
"""Exit codes. UNPROVEN: nothing is wrong, but who made the package was not proven, as it is
unsigned or no key was given. It is the code of INCONCLUSIVE: missing data is never good news."""

_KEPT = {
    evidence.MANIFEST: 16 << 20,
    evidence.ATTESTATION: 4 << 20,
    evidence.INFO: 1 << 20,
    evidence.CERTIFICATION: 16 << 20,
    evidence.EMAIL: 1 << 16,
}
"""Files that a verification reads, and how large they may be."""


class Failure(NamedTuple):
    """One thing that does not hold: one line."""

    file: str
    cause: str

    def __str__(self) -> str:
        return f"{self.file}: {self.cause}"


@dataclass
class Verification:
    """What verification found: what holds, what does not, and what could not be known."""

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

    @property
    def exit_code(self) -> int:
        """Exit code of `tars-ga verify`."""
        if self.failures:
            return REFUSED
        return UNPROVEN if self.unproven else VERIFIED

    def fail(self, file: str, cause: str) -> None:
        """Note that something does not hold."""
        self.failures.append(Failure(printable(file), cause))


def verify(
    path: Path,
    key: Key | None = None,
    *,
    replay: bool = False,
    tolerance: float | None = None,
    pages: bool = False,
    memory: int | None = None,
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
        (see `_check_policy`).

    Raises
    ------
    ParametersError
        If there is nothing to read at `path`, or `policy` is none.
    """
    package = locate(path)
    found = Verification(package)
    demanded = _policy(policy) if policy is not None else None
    contents = _checked(found)
    if contents is None:
        return found
    _check_attestation(found, contents, key)
    if demanded is not None:
        _check_policy(found, contents, demanded)
    if replay and not found.failures:
        with _folder_of(package, contents) as folder:
            _replay(found, folder, tolerance, pages, memory)
    return found


def locate(path: Path) -> Path:
    """Return the archive or the folder of a package that a path means.

    Raises
    ------
    ParametersError
        If there is none.
    """
    if path.is_dir():
        for name in (evidence.MANIFEST, f"package/{evidence.MANIFEST}", evidence.ROOT):
            if (path / name).exists():
                return path / name if name == evidence.ROOT else (path / name).parent
        if (path / evidence.ARCHIVE).exists():
            return path / evidence.ARCHIVE
        raise ParametersError(
            f"{path}: there is no package in it; name an archive ({evidence.ARCHIVE}) or the "
            "folder with its MANIFEST.sha256"
        )
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise ParametersError(f"{path}: cannot be read ({error.strerror})") from None
    if not regular:
        raise ParametersError(f"{path}: is not a file; name an archive ({evidence.ARCHIVE})")
    return path


# --- reading -------------------------------------------------------------------------------------


@dataclass
class Contents:
    """A package as it was read: the SHA-256 of each file, and the content of some."""

    digests: dict[str, str] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)
    digest: str = ""


class _Hashed:
    """A stream that is hashed as it is read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.sha = stream, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.sha.update(data)
        return data


def read(
    package: Path, keep: Mapping[str, int], into: Path | None = None
) -> tuple[Contents, list[Failure]]:
    """Read a package, hash every file, and keep some.

    Parameters
    ----------
    keep
        Files to keep, and how large each may be.
    into
        Folder to which an archive's files are unpacked; only below it anything is written.

    Raises
    ------
    ArchiveError
        If the archive is not of the one form that packages have.
    """
    if package.is_dir():
        return _read_folder(package, keep)
    contents = Contents()
    with package.open("rb") as raw:
        stream = _Hashed(raw)
        for entry in tarball.read(stream):  # type: ignore[arg-type]
            name = entry.name.removeprefix(evidence.ROOT)
            if name == entry.name:
                raise ArchiveError(entry.name, f"lies outside of {evidence.ROOT}")
            if name in keep and entry.size > keep[name]:
                raise ArchiveError(name, f"has {entry.size} bytes, which is too many")
            target = into / name if into else None
            digest, content = _take(entry.chunks(), target, name in keep)
            contents.digests[name] = digest
            if content is not None:
                contents.kept[name] = content
        contents.digest = stream.sha.hexdigest()
    return contents, []


def _take(chunks: Iterator[bytes], target: Path | None, keep: bool) -> tuple[str, bytes | None]:
    sha, kept = hashlib.sha256(), bytearray()
    with contextlib.ExitStack() as stack:
        stream: IO[bytes] | None = None
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(target.open("xb"))
        for chunk in chunks:
            sha.update(chunk)
            if stream:
                stream.write(chunk)
            if keep:
                kept += chunk
    return sha.hexdigest(), bytes(kept) if keep else None


def _read_folder(folder: Path, keep: Mapping[str, int]) -> tuple[Contents, list[Failure]]:
    contents, failures, names = Contents(), [], tarball.Names()
    for name, file, special in _walk(folder, PurePosixPath()):
        try:
            names.add(name)
            if special:
                raise ArchiveError(name, "is a link or special file, not a plain file")
            if name in keep and file.stat().st_size > keep[name]:
                raise ArchiveError(name, "is too large")
            digest, content = _take(_file_chunks(file), None, name in keep)
        except ArchiveError as error:
            failures.append(Failure(error.file, error.cause))
        except OSError as error:
            failures.append(Failure(printable(name), f"cannot be read ({error.strerror})"))
        else:
            contents.digests[name] = digest
            if content is not None:
                contents.kept[name] = content
    return contents, failures


def _file_chunks(file: Path) -> Iterator[bytes]:
    # A link put there meanwhile is not followed.
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        while chunk := stream.read(tarball.CHUNK):
            yield chunk


def _walk(folder: Path, inside: PurePosixPath) -> Iterator[tuple[str, Path, bool]]:
    """Yield every file of a folder, and whether it is a link or a special file."""
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        path, name = Path(entry.path), inside / entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path, name)
        else:
            yield str(name), path, not entry.is_file(follow_symlinks=False)


def strict_json(content: bytes, name: str) -> Any:
    """Read JSON that says one thing only: no key twice, no number that is none.

    Raises
    ------
    ArchiveError
        If it is not that, or is built to break its reader.
    """

    try:
        return strict.loads(content)
    except ValueError as error:
        raise ArchiveError(name, f"is not sound JSON ({printable(str(error))})") from None


# --- checks --------------------------------------------------------------------------------------


def _checked(found: Verification) -> Contents | None:
    """Read a package and check its checksum, its manifest and the documents that say what it is."""
    try:
        contents, failures = read(found.package, _KEPT)
    except ArchiveError as error:
        name = found.package.name if error.file == "archive" else error.file
        found.fail(name, error.cause)
        return None
    except OSError as error:
        raise ParametersError(f"{found.package}: cannot be read ({error.strerror})") from None
    found.failures += failures
    found.digest = contents.digest
    if contents.digest:
        _check_checksum(found, contents.digest)
    _check_manifest(found, contents)
    for name in (evidence.INFO, evidence.CERTIFICATION):
        if name not in contents.kept:
            found.fail(name, "is missing, and a package needs it")
    return None if evidence.CERTIFICATION not in contents.kept else contents


def _check_checksum(found: Verification, digest: str) -> None:
    """Compare the archive with the checksum file beside it, if there is one."""
    file = found.package.with_name(f"{found.package.name}.sha256")
    try:
        text = file.read_text(encoding="ascii")
    except FileNotFoundError:
        found.notes.append(f"there is no {file.name} beside it; the manifest speaks for its files")
        return
    except (OSError, ValueError):
        found.fail(file.name, "cannot be read as a checksum file")
        return
    if text == f"{digest}  {found.package.name}\n":
        found.holds.append(f"archive: it is what {file.name} says")
    elif text.startswith(digest):
        found.fail(file.name, f"is not the checksum file of {found.package.name}")
    else:
        found.fail(found.package.name, f"its SHA-256 is {digest}, not that of {file.name}")


def _check_manifest(found: Verification, contents: Contents) -> None:
    """Compare the files with the manifest: missing, changed, extra, or listed in another way."""
    if evidence.MANIFEST not in contents.kept:
        found.fail(evidence.MANIFEST, "is missing, so nothing says what belongs to the package")
        return
    covered = {n: d for n, d in contents.digests.items() if n not in evidence.UNCOVERED}
    try:
        listed = _parse_manifest(contents.kept[evidence.MANIFEST])
    except ValueError as error:
        found.fail(evidence.MANIFEST, str(error))
        return
    before = len(found.failures)
    for name in sorted(listed.keys() | covered.keys()):
        if name not in covered:
            found.fail(name, "is missing; the manifest lists it")
        elif name not in listed:
            found.fail(name, "is extra; the manifest does not list it")
        elif listed[name] != covered[name]:
            found.fail(name, "was changed; its SHA-256 is not that of the manifest")
    if len(found.failures) == before:
        found.holds.append(
            f"manifest: all {len(listed)} files are as listed, none is missing, changed or extra"
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
    if evidence.manifest_text(listed).encode() != content:
        raise ValueError("is not sorted, lists a file twice, or has other line ends")
    return listed


def _check_attestation(found: Verification, contents: Contents, key: Key | None) -> None:
    """See that the attestation is about this package and policy, and who signed it."""
    name = evidence.ATTESTATION
    try:
        info = strict_json(contents.kept.get(evidence.INFO, b"{}"), evidence.INFO)
        certification = strict_json(contents.kept[evidence.CERTIFICATION], evidence.CERTIFICATION)
        covered = {n: d for n, d in contents.digests.items() if n not in evidence.UNCOVERED}
        manifest = hashlib.sha256(contents.kept.get(evidence.MANIFEST, b"")).hexdigest()
        expected = attestation.statements(manifest, covered, certification, info)
        found.certification, found.policy = certification, attestation.policy_digest(covered)
        found.signed_by = info["signed_by"]
        found.fingerprint = fingerprint.of(certification)
        _check_decision(found, certification)
        _check_email(found, contents, evidence.email(certification, info))
        if name not in contents.kept:
            raise ArchiveError(name, "is missing, so nobody claims anything of the package")
        envelopes = attestation.read(contents.kept[name])
    except ArchiveError as error:
        found.fail(error.file, error.cause)
        return
    except (LookupError, TypeError, AttributeError, ArithmeticError):
        found.fail(evidence.CERTIFICATION, "is not a certification that this version can read")
        return
    except ValueError as error:
        found.fail(name, str(error))
        return
    if _names_this(found, expected, envelopes):
        found.holds.append(
            f"attestation: it names this package and its policy (SHA-256 {found.policy[:16]}…)"
        )
    _check_signatures(found, envelopes, key)


def _check_decision(found: Verification, certification: dict[str, Any]) -> None:
    """See that the decision follows from the criteria's verdicts, and each from its value."""
    name, outcomes = evidence.CERTIFICATION, certification["criteria"]
    decided = decide([Outcome(**outcome) for outcome in outcomes])
    said = {key: certification[key] for key in ("decision", "binding_criterion", "because")}
    follows = {key: value for key, value in decided.facts().items() if key in said}
    for key in said:
        if said[key] != follows[key]:
            found.fail(
                name,
                f"{key} is {_quoted(said[key])}, and from the criteria follows "
                f"{_quoted(follows[key])}",
            )
    for outcome in outcomes:
        passed = outcome["verdict"] in ("pass", "warn")
        operator, number = outcome["target"].split()
        if passed and not Limit(operator, float(number)).holds(float(outcome["value"])):
            found.fail(
                name,
                f"{printable(outcome['name'])} is a {outcome['verdict']}, and its value "
                f"{outcome['value']} does not meet {printable(outcome['target'])}",
            )


def _quoted(value: Any) -> str:
    return f"'{printable(str(value))}'"


def _check_email(found: Verification, contents: Contents, text: str) -> None:
    """See that the e-mail's summary says what follows from the certification."""
    if contents.kept.get(evidence.EMAIL) != text.encode():
        found.fail(evidence.EMAIL, "is not what follows from the certification")


# --- the policy ----------------------------------------------------------------------------------


def _policy(text: str) -> str | dict[str, str]:
    """Return the digest of a whole policy, or that of each of its files that are demanded."""
    digest = text.removeprefix("sha256:").lower()
    if len(digest) == 64 and not set(digest) - set("0123456789abcdef"):
        return digest
    path = Path(text)
    files = attestation.policy_files(
        f"parameters/{file.name}" for file in path.glob("*.yaml")
    ) if path.is_dir() else ["parameters/criteria.yaml"]  # fmt: skip
    try:
        read = {
            name: (path / Path(name).name if path.is_dir() else path).read_bytes() for name in files
        }
    except OSError as error:
        raise ParametersError(
            f"--policy {text}: cannot be read ({error.strerror}); give a digest of 64 digits, a "
            "criteria file, or a folder with criteria.yaml, drift_rules.yaml and kpis.yaml"
        ) from None
    return {name: hashlib.sha256(content).hexdigest() for name, content in read.items()}


def _check_policy(found: Verification, contents: Contents, demanded: str | dict[str, str]) -> None:
    """Compare what the release was certified under with what is demanded, to the byte."""
    before = len(found.failures)
    if isinstance(demanded, str):
        if found.policy != demanded:
            found.fail(
                "parameters",
                f"it was certified under the policy {found.policy[:16] or 'NONE'}…, not under "
                f"{demanded[:16]}… as demanded",
            )
    else:
        for name, digest in demanded.items():
            if contents.digests.get(name) != digest:
                found.fail(name, "is not the one that is demanded (--policy)")
    if len(found.failures) == before:
        found.holds.append("policy: it was certified under the criteria that are demanded")


def _names_this(
    found: Verification, expected: list[dict[str, Any]], envelopes: list[attestation.Envelope]
) -> bool:
    """Compare the statements with those that follow from the package's files."""
    before = len(found.failures)
    if len(envelopes) != len(expected):
        found.fail(
            evidence.ATTESTATION, f"holds {len(envelopes)} statements instead of {len(expected)}"
        )
    for statement, envelope in zip(expected, envelopes, strict=False):
        if envelope.payload == attestation.payload(statement):
            continue
        kind = statement["predicateType"].rpartition("/")[0].rpartition("/")[2]
        try:
            given = strict_json(envelope.payload, evidence.ATTESTATION)
        except ArchiveError as error:
            found.fail(error.file, error.cause)
            continue
        for path in list(_differing(given, statement, "")) or ["its form"]:
            found.fail(
                evidence.ATTESTATION,
                f"{kind}: {printable(path)} is not what follows from the package's files",
            )
    return len(found.failures) == before


def _differing(given: Any, wanted: Any, path: str) -> Iterator[str]:
    if isinstance(given, dict) and isinstance(wanted, dict):
        for key in {**wanted, **given}:
            inner = f"{path}.{key}".lstrip(".")
            if key not in given or key not in wanted:
                yield inner
            else:
                yield from _differing(given[key], wanted[key], inner)
    elif given != wanted:
        yield path or "its content"


def _check_signatures(
    found: Verification, envelopes: list[attestation.Envelope], key: Key | None
) -> None:
    name = evidence.ATTESTATION
    signed = bool(envelopes) and all(envelope.signatures for envelope in envelopes)
    if any(envelope.signatures for envelope in envelopes) and not signed:
        found.fail(name, "is signed in part only")
    if not signed and found.signed_by:
        found.fail(name, f"is unsigned, although {evidence.INFO} says that a key signed it")
    if signed and any(found.signed_by not in envelope.keyids for envelope in envelopes):
        found.fail(name, f"is signed by another key than {evidence.INFO} says")
    if key is not None:
        if not signed:
            found.fail(name, "is unsigned, and a key was given that must have signed it")
        elif all(attestation.signed_by(envelope, key) for envelope in envelopes):
            found.holds.append(f"signature: it is by the key {key.keyid}")
        else:
            found.fail(name, f"is not signed by the given key ({key.keyid})")
    elif signed:
        found.unproven.append(
            f"{name}: it says it is signed by the key {printable(str(found.signed_by))}; that was "
            "NOT CHECKED: give the public key with --key"
        )
    else:
        found.unproven.append(
            f"{name}: the package is UNSIGNED: nothing proves who made it, and whoever changed a "
            "file could have changed the manifest too"
        )


def _replay(
    found: Verification, folder: Path, tolerance: float | None, pages: bool, memory: int | None
) -> None:
    result = replay.replay_apart(folder, tolerance, pages=pages, memory=memory)
    found.replay = result
    before = len(found.failures)
    for file, cause in replay.problems(result):
        found.fail(file, cause)
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
    if result.pages and len(found.failures) == before:
        found.holds.append(
            f"pages: all {len(result.pages)} files of the report are what its run renders"
        )
    elif not result.pages:
        found.notes.append(result.no_pages)
    if not result.same_software:
        found.notes.append("the package was made with other versions than this replay")


# --- for those who use a package -----------------------------------------------------------------


def _sound(package: Path, keep: Mapping[str, int]) -> Contents:
    """Return the contents of a package whose files are all as its manifest lists them."""
    found = Verification(package)
    try:
        contents, found.failures = read(package, {**keep, **_KEPT})
        _check_manifest(found, contents)
    except ArchiveError as error:
        name = package.name if error.file == "archive" else error.file
        raise ParametersError(f"{package}: {name}: {error.cause}; take an undamaged copy") from None
    except OSError as error:
        raise ParametersError(f"{package}: cannot be read ({error.strerror})") from None
    if found.failures:
        more = len(found.failures) - 1
        raise ParametersError(
            f"{package}: {found.failures[0]}"
            + (f" (and {more} more)" if more else "")
            + "; take an undamaged copy"
        )
    return contents


def documents(path: Path, names: Mapping[str, int]) -> tuple[Contents, dict[str, Any]]:
    """Return JSON files of a package whose files are all as its manifest lists them.

    Parameters
    ----------
    names
        Files to read, and how large each may be; one that is not there is not in the answer.

    Raises
    ------
    ParametersError
        If the package is not whole.
    """
    contents = _sound(locate(path), names)
    try:
        return contents, {
            name: sanitise.tree(strict_json(contents.kept[name], name))
            for name in names
            if name in contents.kept
        }
    except ArchiveError as error:
        raise ParametersError(f"{path}: {error}; take an undamaged copy") from None


@contextlib.contextmanager
def _folder_of(package: Path, contents: Contents) -> Iterator[Path]:
    """Give the folder of a package that was found good; an archive's is temporary."""
    if package.is_dir():
        yield package
        return
    with tempfile.TemporaryDirectory(prefix="tars-ga-") as folder:
        try:
            again, _ = read(package, {}, Path(folder))
        except OSError as error:
            raise ParametersError(
                f"{package}: cannot be unpacked into {folder} ({error.strerror}); make room there, "
                "or set TMPDIR to another folder"
            ) from None
        if again.digest != contents.digest:
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
    package = locate(path)
    with _folder_of(package, _sound(package, {})) as folder:
        try:
            replay.check_apart(folder)
        except (ArchiveError, OSError) as error:
            raise ParametersError(f"{path}: {error}") from None
        yield folder
