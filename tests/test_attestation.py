"""The attestation: what it claims, and that its signatures are what the standard says."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Key, Signer

from tars_ga_lib.evidence import attestation
from tars_ga_lib.evidence import package as evidence
from tars_ga_lib.grammar import ParametersError
from tests.helpers import CRITERION
from tests.packages import Done, command, finished_run, unpack

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def key(tmp_path: Path) -> Path:
    attestation.keygen(tmp_path / "key")
    return tmp_path / "key"


def _lines(package: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (package / evidence.ATTESTATION).read_text().splitlines()]


def _statements(run: Path, where: Path, signer: Signer | None = None) -> list[dict[str, Any]]:
    package = unpack(evidence.build(run, signer).archive, where)
    return [json.loads(base64.b64decode(line["payload"])) for line in _lines(package)]


# --- what is claimed -----------------------------------------------------------------------------


def test_the_subjects_are_the_release_and_the_package(tmp_path: Path) -> None:
    release = {"name": "T.A.R.S.", "version": "v1.0.1", "digest": DIGEST}
    run = finished_run(tmp_path / "run", release=release)
    for statement in _statements(run, tmp_path / "x"):
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        manifest = (tmp_path / "x" / evidence.ROOT / "MANIFEST.sha256").read_bytes()
        assert statement["subject"] == [
            {"name": "T.A.R.S. v1.0.1", "digest": {"sha256": "ab" * 32}},
            {"name": "MANIFEST.sha256", "digest": {"sha256": hashlib.sha256(manifest).hexdigest()}},
        ]


def test_without_a_digest_only_the_package_is_named(tmp_path: Path) -> None:
    results, summary = _statements(finished_run(tmp_path / "run"), tmp_path / "x")
    assert [each["name"] for each in results["subject"]] == ["MANIFEST.sha256"]
    assert summary["predicate"]["resourceUri"] == "pkg:generic/T.A.R.S.@v1.0.1"


WAIVER = (
    "waivers: [{release: v1.0.1, criterion: availability, who: A, why: B, "
    "until: 2026-12-24T00:00:00Z}]"
)
STRICT = {
    "availability": CRITERION,
    "replicas": {"title": "R", "kpi": "replicas", "target": "> 99"},
}
UNKNOWN = {"availability": CRITERION, "p99": {"title": "P", "kpi": "latency_p99", "target": "< 1"}}
WARNED = {"availability": CRITERION | {"warning": "> 1"}}

DECISIONS: dict[str, Any] = {
    "CERTIFIED": ({}, "PASSED", "PASSED", ["TARS_GA_CERTIFIED"], [["availability"], [], []]),
    "CERTIFIED, warned": (
        {"criteria_": WARNED},
        "WARNED",
        "PASSED",
        ["TARS_GA_CERTIFIED"],
        [[], ["availability"], []],
    ),
    "CERTIFIED WITH WAIVERS": (
        {"up": 0.9, "waivers": "w.yaml", "texts": {"w.yaml": WAIVER}},
        "WARNED",
        "PASSED",
        ["TARS_GA_CERTIFIED_WITH_WAIVERS"],
        [[], [], ["availability"]],
    ),
    "NOT CERTIFIED": (
        {"criteria_": STRICT},
        "FAILED",
        "FAILED",
        ["FAILED"],
        [["availability"], [], ["replicas"]],
    ),
    "INCONCLUSIVE": (
        {"criteria_": UNKNOWN},
        "FAILED",
        "FAILED",
        ["FAILED"],
        [["availability"], [], ["p99"]],
    ),
}


@pytest.mark.parametrize("decision", DECISIONS)
def test_each_decision_is_told_in_the_predicates_words(decision: str, tmp_path: Path) -> None:
    changes, result, verdict, levels, tests = DECISIONS[decision]
    results, summary = _statements(finished_run(tmp_path / "run", **changes), tmp_path / "x")
    assert results["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert summary["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert results["predicate"]["result"] == result
    kinds = ("passedTests", "warnedTests", "failedTests")
    assert [results["predicate"][kind] for kind in kinds] == tests
    assert summary["predicate"]["verificationResult"] == verdict
    assert summary["predicate"]["verifiedLevels"] == levels
    details = summary["predicate"][attestation.DETAILS]
    assert details == results["predicate"][attestation.DETAILS]
    assert details["decision"] == decision.partition(",")[0]
    assert bool(details["undecided"]) == (decision == "INCONCLUSIVE")
    if decision == "INCONCLUSIVE":
        assert details["undecided"]["p99"] in details["because"]
    waived = [w["criterion"] for w in details["waivers"]]
    assert waived == (["availability"] if "WAIVERS" in decision else [])


def test_the_policy_is_what_sha256sum_says_of_its_files(tmp_path: Path) -> None:
    _, summary = _statements(finished_run(tmp_path / "run"), tmp_path / "x")
    package = tmp_path / "x" / evidence.ROOT
    policy = summary["predicate"]["policy"]
    said = subprocess.run(
        ["sha256sum", *policy["annotations"]["files"]], cwd=package, capture_output=True, check=True
    )
    assert policy["digest"]["sha256"] == hashlib.sha256(said.stdout).hexdigest()


def test_the_summary_names_its_time_verifier_and_the_results(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    results, summary = _statements(run, tmp_path / "x")
    predicate = summary["predicate"]
    assert predicate["timeVerified"] == "2026-11-20T04:00:00Z"
    assert predicate["verifier"]["id"]
    assert predicate["verifier"]["version"]["certified_by"].startswith("tars-ga ")
    digest = hashlib.sha256(attestation.payload(results)).hexdigest()
    assert predicate["inputAttestations"][0]["digest"] == {"sha256": digest}
    names = {each["name"] for each in results["predicate"]["configuration"]}
    assert {"parameters/run.yaml", "parameters/criteria.yaml", "recording/recording.json"} <= names


# --- signatures ----------------------------------------------------------------------------------


def _pae(kind: bytes, payload: bytes) -> bytes:
    """Encode as the DSSE protocol says, from its text alone."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def test_an_independent_check_accepts_the_signature(key: Path, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    evidence.build(run, attestation.load_signer(str(key)))
    package = unpack(run / evidence.ARCHIVE, tmp_path / "x")
    public = load_pem_public_key(key.with_name("key.pub").read_bytes())
    assert isinstance(public, Ed25519PublicKey)
    lines = _lines(package)
    assert len(lines) == 2
    for line in lines:
        assert line["payloadType"] == "application/vnd.in-toto+json"
        payload = base64.b64decode(line["payload"], validate=True)
        (signature,) = line["signatures"]
        raw = base64.b64decode(signature["sig"], validate=True)
        public.verify(raw, _pae(line["payloadType"].encode(), payload))
        with pytest.raises(InvalidSignature):
            public.verify(raw, _pae(b"application/json", payload))
        with pytest.raises(InvalidSignature):
            public.verify(raw, payload)


def test_an_unsigned_package_has_envelopes_without_signatures(tmp_path: Path) -> None:
    package = unpack(evidence.build(finished_run(tmp_path / "run")).archive, tmp_path / "x")
    assert [line["signatures"] for line in _lines(package)] == [[], []]


def _pem(private: Any, path: Path, secret: bytes | None = None) -> tuple[Path, Path]:
    protection = BestAvailableEncryption(secret) if secret else NoEncryption()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    path.chmod(0o600)
    public = path.with_name(f"{path.name}.pub")
    public.write_bytes(
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return path, public


def test_ecdsa_and_rsa_keys_serve_too(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    keys: dict[str, Any] = {
        "ec": ec.generate_private_key(ec.SECP256R1()),
        "rsa": rsa.generate_private_key(65537, 2048),
    }
    for name, private in keys.items():
        file, public = _pem(private, tmp_path / name)
        evidence.build(run, attestation.load_signer(str(file)))
        package = unpack(run / evidence.ARCHIVE, tmp_path / f"x-{name}")
        trusted = attestation.load_key(public)
        for envelope in attestation.read((package / evidence.ATTESTATION).read_bytes()):
            assert attestation.signed_by(envelope, trusted)
            raw = base64.b64decode(envelope.signatures[0]["sig"])
            signed = _pae(b"application/vnd.in-toto+json", envelope.payload)
            check = private.public_key()
            if isinstance(check, rsa.RSAPublicKey):
                pss = padding.PSS(padding.MGF1(SHA256()), padding.PSS.AUTO)
                check.verify(raw, signed, pss, SHA256())
            else:
                check.verify(raw, signed, ec.ECDSA(SHA256()))


def test_a_passphrase_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = _pem(ec.generate_private_key(ec.SECP256R1()), tmp_path / "k", b"secret")
    monkeypatch.delenv("TARS_GA_KEY_PASSPHRASE", raising=False)
    with pytest.raises(ParametersError, match="set TARS_GA_KEY_PASSPHRASE"):
        attestation.load_signer(str(file))
    monkeypatch.setenv("TARS_GA_KEY_PASSPHRASE", "wrong")
    with pytest.raises(ParametersError, match="passphrase is wrong"):
        attestation.load_signer(str(file))
    monkeypatch.setenv("TARS_GA_KEY_PASSPHRASE", "secret")
    assert attestation.load_signer(str(file)).public_key.keytype == "ecdsa"


def test_only_the_right_key_and_the_right_bytes_are_accepted(key: Path, tmp_path: Path) -> None:
    attestation.keygen(tmp_path / "other")
    good, other = (attestation.load_key(tmp_path / f"{n}.pub") for n in ("key", "other"))
    line = attestation.bundle([{"a": 1}], attestation.load_signer(str(key)))
    (envelope,) = attestation.read(line)
    assert attestation.signed_by(envelope, good)
    assert not attestation.signed_by(envelope, other)
    signature = envelope.signatures[0]
    for changed in (
        attestation.Envelope(b'{"a":2}', [signature]),
        attestation.Envelope(envelope.payload, []),
        attestation.Envelope(envelope.payload, [signature | {"sig": "AAAA"}]),
        attestation.Envelope(envelope.payload, [signature | {"keyid": other.keyid}]),
        attestation.Envelope(envelope.payload, [signature, signature]),
        attestation.Envelope(envelope.payload, [{"keyid": 5, "sig": None}]),
    ):
        assert not attestation.signed_by(changed, good)


def test_a_bundle_has_one_form_only() -> None:
    good = attestation.bundle([{"a": 1}, {"b": "é"}], None)
    assert [e.payload for e in attestation.read(good)] == [b'{"a":1}', '{"b":"é"}'.encode()]
    for bad in (
        good[:-1],
        good.replace(b'"payload":', b'"payload": ', 1),
        good.replace(b'"payloadType":"application/vnd.in-toto+json"', b'"payloadType":"x"', 1),
        good.replace(b"]}", b"]", 1),
        b"\n" + good,
        b"[]\n",
        b"[" * 100_000,
        b'{"payload":"e9==","payloadType":"application/vnd.in-toto+json","signatures":[]}\n',
        b'{"payload":1,"payloadType":"application/vnd.in-toto+json","signatures":{}}\n',
        b'{"payload":"","payloadType":"application/vnd.in-toto+json","signatures":[1]}\n',
        b"\xff\n",
    ):
        with pytest.raises(ValueError, match="envelope"):
            attestation.read(bad)


# --- keys ----------------------------------------------------------------------------------------


def test_keygen_makes_a_private_file_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def tars_ga(*arguments: object) -> Done:
        return command(capsys, *arguments)

    before = os.umask(0)
    try:
        done = tars_ga("keygen", tmp_path / "k")
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    public = attestation.load_key(tmp_path / "k.pub")
    assert public.keyid in done.stdout
    assert attestation.load_signer(str(tmp_path / "k")).public_key == public
    content = {p: p.read_bytes() for p in tmp_path.iterdir()}
    again = tars_ga("keygen", tmp_path / "k")
    assert again.returncode == 2
    assert "is there already" in again.stderr
    (tmp_path / "k2.pub").write_text("mine")
    assert tars_ga("keygen", tmp_path / "k2").returncode == 2
    assert not (tmp_path / "k2").exists()
    assert {p: p.read_bytes() for p in content} == content
    assert tars_ga("keygen", tmp_path / "no" / "k").returncode == 2


def test_a_key_that_others_can_read_is_refused(key: Path) -> None:
    for mode in (0o644, 0o640, 0o602):
        key.chmod(mode)
        with pytest.raises(ParametersError, match=f"mode {mode:03o}"):
            attestation.load_signer(str(key))


def test_what_is_no_key_is_refused_in_a_sentence(key: Path, tmp_path: Path) -> None:
    with pytest.raises(ParametersError, match="is a private key; give the public one"):
        attestation.load_key(key)
    with pytest.raises(ParametersError, match="cannot be read"):
        attestation.load_key(tmp_path / "nothing")
    with pytest.raises(ParametersError, match="cannot be read"):
        attestation.load_signer(str(tmp_path / "nothing"))
    (tmp_path / "key.pub").chmod(0o600)
    with pytest.raises(ParametersError, match="is not a private key"):
        attestation.load_signer(str(tmp_path / "key.pub"))
    for content in ("", "x", "{", "{}", '{"keytype": "ed25519"}', '{"keytype": 1, "scheme": []}'):
        (tmp_path / "bad.pub").write_text(content)
        with pytest.raises(ParametersError, match="is not a public key"):
            attestation.load_key(tmp_path / "bad.pub")


def test_a_key_may_be_given_in_the_form_of_securesystemslib(key: Path, tmp_path: Path) -> None:
    public = attestation.load_key(key.with_name("key.pub"))
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"keyid": public.keyid, **public.to_dict()}))
    assert attestation.load_key(file) == public


class _Service(Signer):
    """Stands for a key service."""

    def __init__(self, private: CryptoSigner) -> None:
        self._private = private

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, handler: Any = None) -> Signer:
        if "broken" in priv_key_uri:
            raise ConnectionError("nobody answers")
        path = priv_key_uri.partition(":")[2]
        return cls(CryptoSigner.from_priv_key_uri(f"file2:{path}", public_key))

    @property
    def public_key(self) -> Key:
        return self._private.public_key

    def sign(self, payload: bytes) -> Any:
        if len(payload) < 50:
            raise TimeoutError("the service is slow")
        return self._private.sign(payload)


def test_a_key_service_signs_by_its_uri(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "service", _Service)
    public = key.with_name("key.pub")
    signer = attestation.load_signer(f"service:{key}", public)
    built = evidence.build(finished_run(tmp_path / "run"), signer)
    package = unpack(built.archive, tmp_path / "x")
    trusted = attestation.load_key(public)
    for envelope in attestation.read((package / evidence.ATTESTATION).read_bytes()):
        assert attestation.signed_by(envelope, trusted)
    with pytest.raises(ParametersError, match="--public-key"):
        attestation.load_signer(f"service:{key}")
    with pytest.raises(ParametersError, match="nobody answers"):
        attestation.load_signer("service:broken", public)
    with pytest.raises(ParametersError, match="the service is slow"):
        attestation.bundle([{}], signer)


@pytest.mark.parametrize(
    "uri", ["gcpkms:a", "awskms:a", "azurekms:a", "hv:a", "hsm:", "sigstore:?ambient=true"]
)
def test_the_services_of_the_library_are_asked_for_by_name(
    uri: str, key: Path, tmp_path: Path
) -> None:
    """Their libraries are not installed here: what is checked is that each is reached."""
    public = key.with_name("key.pub")
    with pytest.raises(ParametersError, match=r"cannot be used|cannot be signed") as refused:
        attestation.bundle([{}], attestation.load_signer(uri, public))
    assert "Unsupported private key scheme" not in str(refused.value)
