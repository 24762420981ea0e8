"""The attestation: what is claimed of a package, in the form that supply-chain tools read, signed.

Two in-toto statements stand in `attestation.intoto.jsonl`, each in its own DSSE envelope: the
result of every criterion (`test-result`), and the decision under a policy (SLSA verification
summary). Their subjects are the release's digest, if it was given, and the package's manifest, and
with it every file. The statements follow from the package's files alone, so whoever checks a
package writes them again and compares.

An envelope without a signature claims nothing: the package is unsigned, and says so.

References
----------
- in-toto Statement v1: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
- test-result v0.1: https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
- Verification Summary v1: https://slsa.dev/spec/v1.0/verification_summary
- DSSE v1: https://github.com/secure-systems-lab/dsse/blob/v1.0.2/envelope.md
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tars_ga_lib import strict
from tars_ga_lib.grammar import ParametersError

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
SUMMARY = "https://slsa.dev/verification_summary/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"

DETAILS = "urn:tars-ga:certification:1"
"""Name of the extension field that keeps what the predicates have no field for."""

POLICY = (
    "parameters/criteria.yaml",
    "parameters/drift_rules.yaml",
    "parameters/kpis.yaml",
    "parameters/slos.yaml",
)
"""Files that say what is asked of a release: together they are the policy. The last may be absent,
where nothing refers to an objective."""

PASSPHRASE = "TARS_GA_KEY_PASSPHRASE"
"""Environment variable with the passphrase of an encrypted key file."""


# --- statements ----------------------------------------------------------------------------------


def policy_files(names: Iterable[str]) -> list[str]:
    """Return those of a package's files that are its policy, in their order."""
    return [name for name in POLICY if name != POLICY[-1] or name in names]


def policy_digest(digests: Mapping[str, str]) -> str:
    """SHA-256 of the policy: of what `sha256sum` prints for its files, in the order of `POLICY`."""
    lines = "".join(f"{digests[name]}  {name}\n" for name in policy_files(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def statements(
    manifest: str,
    digests: Mapping[str, str],
    certification: Mapping[str, Any],
    info: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return the two statements about a package, which follow from its files.

    INCONCLUSIVE is FAILED, with its reason beside it. `timeVerified` is the package's own time, as
    the time of the clock would make two packages of one run differ.

    Parameters
    ----------
    manifest
        SHA-256 of the manifest.
    digests
        SHA-256 of every file that the manifest covers.
    certification, info
        Content of `certification_metadata.json` and of `artifacts/package.json`.
    """
    release, decision = certification["release"], certification["decision"]
    subject = [{"name": "MANIFEST.sha256", "digest": {"sha256": manifest}}]
    if release["digest"]:
        digest = {"sha256": release["digest"].removeprefix("sha256:")}
        subject.insert(0, {"name": f"{release['name']} {release['version']}", "digest": digest})
    frame = {"_type": STATEMENT, "subject": subject}
    details = {DETAILS: _details(certification, info)}
    results = {
        **frame,
        "predicateType": TEST_RESULT,
        "predicate": _test_result(digests, certification) | details,
    }
    passed = decision in ("CERTIFIED", "CERTIFIED WITH WAIVERS")
    checksum = f"?checksum={quote(release['digest'], safe=':')}" if release["digest"] else ""
    name, version = (quote(release[key], safe="") for key in ("name", "version"))
    summary = {
        "verifier": {"id": "urn:tars-ga:verifier", "version": certification["software"]},
        "timeVerified": info["time"],
        "resourceUri": f"pkg:generic/{name}@{version}{checksum}",
        "policy": {
            "uri": "urn:tars-ga:policy:1",
            "digest": {"sha256": policy_digest(digests)},
            "annotations": {"files": policy_files(digests)},
        },
        "inputAttestations": [
            {
                "uri": "attestation.intoto.jsonl#test-result",
                "digest": {"sha256": hashlib.sha256(payload(results)).hexdigest()},
            }
        ],
        "verificationResult": "PASSED" if passed else "FAILED",
        "verifiedLevels": [f"TARS_GA_{decision.replace(' ', '_')}" if passed else "FAILED"],
    }
    return [results, {**frame, "predicateType": SUMMARY, "predicate": summary | details}]


def _details(certification: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reader must not lose although the predicates know only passed and failed."""
    outcomes = certification["criteria"]
    return {
        "release": certification["release"],
        "window": certification["window"],
        "simulated": certification["simulated"],
        "decision": certification["decision"],
        "because": certification["because"],
        "bindingCriterion": certification["binding_criterion"],
        "undecided": {o["name"]: o["reason"] for o in outcomes if o["verdict"] == "no_data"},
        "waivers": [o["waiver"] for o in outcomes if o["waiver"]],
        "recording": certification["derived_from"]["recording"],
        "notInPackage": info["absent"],
    }


def _test_result(digests: Mapping[str, str], certification: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of every criterion; one without data has failed, as nothing shows it holds.

    A waived criterion stays among the failed: a person accepted the failure, which does not undo
    it.
    """
    by_verdict: dict[str, list[str]] = {}
    for outcome in certification["criteria"]:
        by_verdict.setdefault(outcome["verdict"], []).append(outcome["name"])
    failed = [o["name"] for o in certification["criteria"] if o["verdict"] not in ("pass", "warn")]
    clean = not failed and "warn" not in by_verdict
    certified = {"CERTIFIED": "PASSED" if clean else "WARNED", "CERTIFIED WITH WAIVERS": "WARNED"}
    used = [n for n in digests if n.startswith("parameters/") or n == "recording/recording.json"]
    return {
        "result": certified.get(certification["decision"], "FAILED"),
        "configuration": [{"name": name, "digest": {"sha256": digests[name]}} for name in used],
        "passedTests": by_verdict.get("pass", []),
        "warnedTests": by_verdict.get("warn", []),
        "failedTests": failed,
    }


# --- envelopes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Envelope:
    """One DSSE envelope as it was read; `signatures` as its JSON has them."""

    payload: bytes
    signatures: list[dict[str, Any]]

    def facts(self) -> dict[str, Any]:
        """Return the envelope in the one form in which packages have it.

        Only a keyless signature has more than key and signature: the bundle that says whose it is.
        """
        signatures = []
        for one in self.signatures:
            raw = base64.b64decode(one["sig"], validate=True)
            known = {"keyid": str(one["keyid"]), "sig": base64.b64encode(raw).decode()}
            signatures.append(known | ({"bundle": one["bundle"]} if "bundle" in one else {}))
        return {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": signatures,
        }


def payload(statement: Mapping[str, Any]) -> bytes:
    """Return the bytes of a statement that are signed."""
    return json.dumps(statement, ensure_ascii=False, separators=(",", ":")).encode()


def bundle(all_statements: Sequence[Mapping[str, Any]], signer: Signer | None) -> bytes:
    """Write the content of `attestation.intoto.jsonl`: an envelope a line.

    Raises
    ------
    ParametersError
        If the signer cannot sign.
    """
    envelopes = (_envelope(payload(statement), signer) for statement in all_statements)
    return b"".join(payload(envelope.facts()) + b"\n" for envelope in envelopes)


def _envelope(content: bytes, signer: Signer | None) -> Envelope:
    if signer is None:
        return Envelope(content, [])
    from securesystemslib.dsse import Envelope as Signed

    signed = Signed(content, PAYLOAD_TYPE, {})
    try:
        signed.sign(signer)
    except Exception as error:  # each kind of signer has its own
        raise ParametersError(
            f"the attestation cannot be signed ({type(error).__name__}: {error}); check the "
            "key and the access to it"
        ) from None
    signatures = signed.to_dict()["signatures"]
    for one in signatures:
        raw = _low(base64.b64decode(one["sig"]), signer.public_key)
        one["sig"] = base64.b64encode(raw).decode()
    return Envelope(content, signatures)


def read(content: bytes) -> list[Envelope]:
    """Read a bundle that `bundle` wrote.

    Raises
    ------
    ValueError
        If it is not one, down to the last byte: base64 and JSON can say the same in several ways,
        and a package in only one.
    """
    envelopes = []
    for line in content.splitlines(keepends=True):
        try:
            facts = strict.loads(line)
            inside = base64.b64decode(facts["payload"], validate=True)
            envelope = Envelope(inside, facts["signatures"])
            written = payload(envelope.facts()) + b"\n"
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError("is not a line of DSSE envelopes") from None
        if len(envelope.signatures) > 1:
            raise ValueError("holds an envelope with several signatures, and packages have one")
        if written != line:
            raise ValueError("holds an envelope that is not written as packages write it")
        envelopes.append(envelope)
    return envelopes


def _low(raw: bytes, key: Key) -> bytes:
    """Return the one form of an ECDSA signature, of the two that are good.

    Whoever has (r, s) has (r, n - s) too, without any key (SEC 1, 4.1.3); the lower is ours.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.utils import (
        decode_dss_signature,
        encode_dss_signature,
    )
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(key.keyval["public"].encode())
    except (AttributeError, KeyError, TypeError, ValueError, UnsupportedAlgorithm):
        return raw  # a key of another kind
    if not isinstance(public, EllipticCurvePublicKey):
        return raw
    r, s = decode_dss_signature(raw)
    return encode_dss_signature(r, min(s, public.curve.group_order - s))


def signed_by(envelope: Envelope, key: Key) -> bool:
    """Whether an envelope carries a good signature by this key, in its one form.

    Raises
    ------
    ParametersError
        If the key needs a library that is not installed.
    """
    from securesystemslib.dsse import Envelope as Signed
    from securesystemslib.exceptions import UnsupportedLibraryError, VerificationError
    from securesystemslib.signer import SigstoreKey

    keyless = key.keytype == SigstoreKey.DEFAULT_KEY_TYPE
    try:
        for one in envelope.signatures:
            raw = base64.b64decode(one["sig"])
            if ("bundle" in one) != keyless or _low(raw, key) != raw:
                return False
        Signed.from_dict(envelope.facts()).verify([key], 1)
    except UnsupportedLibraryError as error:
        raise ParametersError(f"the signature cannot be checked: {error}") from None
    except (VerificationError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


# --- keys ----------------------------------------------------------------------------------------


def keygen(path: Path) -> tuple[Path, str]:
    """Make an Ed25519 key pair: `path` (mode 0600) and `path.pub`; return the latter and its id.

    Raises
    ------
    ParametersError
        If one of the files is there already, or cannot be written.
    """
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )
    from securesystemslib.signer import CryptoSigner

    signer = CryptoSigner.generate_ed25519()
    pem = signer.private_bytes
    public_key = load_pem_private_key(pem, None).public_key()
    public = path.with_name(f"{path.name}.pub")
    public_pem = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    made: list[Path] = []
    try:
        for file, content, mode in ((path, pem, 0o600), (public, public_pem, 0o644)):
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as f:
                made.append(file)
                f.write(content)
    except OSError as error:
        for file in made:
            file.unlink()
        why = "is there already" if isinstance(error, FileExistsError) else error.strerror
        raise ParametersError(f"{error.filename or path}: {why}; name another file") from None
    return public, signer.public_key.keyid


def load_signer(name: str, public: Path | None = None) -> Signer:
    """Return the signer that a key file or a URI names.

    Parameters
    ----------
    name
        A private key in a PEM file (Ed25519, ECDSA or RSA; its passphrase, if it has one, is read
        from TARS_GA_KEY_PASSPHRASE), or a URI of securesystemslib: `gcpkms:`, `awskms:`,
        `azurekms:`, `hv:` (HashiCorp Vault), `hsm:` (PKCS #11), `gnupg:`, `file2:`; or
        `sigstore:?ambient=true` for keyless signing in a CI job, which needs the sigstore library
        and a key file that names the identity and its issuer.
    public
        The public key; needed with a URI.

    Raises
    ------
    ParametersError
        If it cannot be used.
    """
    from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Signer, SigstoreSigner

    _know_sigstore()
    scheme = name.partition(":")[0] if ":" in name else ""
    if scheme not in {*SIGNER_FOR_URI_SCHEME, SigstoreSigner.SCHEME}:
        return _file_signer(Path(name))
    if public is None:
        raise ParametersError(f"--sign {scheme}:…: give the public key too, with --public-key")
    try:
        return Signer.from_priv_key_uri(name, load_key(public), _secret)
    except Exception as error:  # each kind of signer has its own
        raise ParametersError(
            f"--sign {scheme}:…: cannot be used ({type(error).__name__}: {error}); check the URI, "
            "the public key, and that the library for it is installed"
        ) from None


def _know_sigstore() -> None:
    """Let keyless keys be used: securesystemslib leaves them out until their form is settled."""
    from securesystemslib.signer import (
        KEY_FOR_TYPE_AND_SCHEME,
        SIGNER_FOR_URI_SCHEME,
        SigstoreKey,
        SigstoreSigner,
    )

    SIGNER_FOR_URI_SCHEME.setdefault(SigstoreSigner.SCHEME, SigstoreSigner)
    kind = SigstoreKey.DEFAULT_KEY_TYPE, SigstoreKey.DEFAULT_SCHEME
    KEY_FOR_TYPE_AND_SCHEME.setdefault(kind, SigstoreKey)


def _secret(what: str) -> str:
    """Return the passphrase or PIN that a signer asks for."""
    if PASSPHRASE not in os.environ:
        raise ParametersError(f"the key needs its {what}; set {PASSPHRASE} in the environment")
    return os.environ[PASSPHRASE]


def _file_signer(file: Path) -> Signer:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        pem = file.read_bytes()
    except OSError as error:
        raise ParametersError(f"--sign {file}: cannot be read ({error.strerror})") from None
    if mode & 0o077:
        raise ParametersError(
            f"--sign {file}: others may read or change it (mode {mode:03o}), so it proves nothing; "
            f"chmod 600 it, and make a new key if that was so for long"
        )
    secret = _secret("passphrase").encode() if b"ENCRYPTED" in pem else None
    try:
        return CryptoSigner(load_pem_private_key(pem, secret))
    except Exception:  # each kind of key has its own errors
        raise ParametersError(
            f"--sign {file}: is not a private key that can be used (a PEM file, Ed25519, ECDSA or "
            "RSA), or the passphrase is wrong; make one with 'tars-ga keygen'"
        ) from None


def load_key(file: Path) -> Key:
    """Read a public key: a PEM file, or a JSON file of securesystemslib's form.

    Raises
    ------
    ParametersError
        If it is none, or is a private key.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import Key, SSlibKey

    _know_sigstore()
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ParametersError(f"{file}: cannot be read ({error.strerror})") from None
    if b"PRIVATE KEY" in content:
        raise ParametersError(f"{file}: is a private key; give the public one, and keep this safe")
    try:
        if content.lstrip().startswith(b"{"):
            facts = strict.loads(content)
            keyid = facts.pop("keyid", None) or hashlib.sha256(content).hexdigest()
            return Key.from_dict(str(keyid), facts)
        return SSlibKey.from_crypto(load_pem_public_key(content))
    except Exception:  # each kind of key has its own errors
        raise ParametersError(
            f"{file}: is not a public key; give a PEM file, like the one of 'tars-ga keygen'"
        ) from None
