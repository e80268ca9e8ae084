"""What build.py makes is judged by three verifiers that other people wrote."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cms.cms_pki import CONTENT, EVERY_SCHEME, authority, sign_detached, sign_opaque
from mailsigil.cms.algorithms import Scheme

Verifier = Callable[[bytes, bytes | None], str]
"""Takes the signature and the detached content; gives "" when it accepts, else what it said."""

# What a tool does not know: the words it says then, and why. A newer release that knows it has to accept it.
UNKNOWN: dict[tuple[str, Scheme], tuple[str, str]] = {
    ("openssl", Scheme.ED25519): (
        "invalid digest",
        "OpenSSL 3.0 hands a digest to EdDSA when it verifies CMS, which its own provider refuses",
    ),
    ("gpgsm", Scheme.ED25519): (
        "Internal error",
        "gpgsm 2.2 checks every elliptic curve signature as ECDSA and has no EdDSA for CMS",
    ),
    ("gpgsm", Scheme.ECDSA_SHA512): (
        "hash length to be a multiple of 8 bits",
        "gpgsm 2.2 refuses P-521: its 521 bits are no multiple of 8",
    ),
    ("nss", Scheme.ED25519): (
        "signer0.status=",
        "NSS has no RFC 8419: older ones do not know Ed25519 in CMS, 3.110 checks it over a digest",
    ),
}


def _need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trust") / "ca.pem"
    path.write_bytes(authority().certificate.public_bytes(Encoding.PEM))
    return path


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(a) for a in arguments], capture_output=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def openssl(trust: Path, tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    _need("openssl")
    folder = tmp_path_factory.mktemp("openssl")

    def verify(blob: bytes, content: bytes | None) -> str:
        (folder / "s.der").write_bytes(blob)
        detached: list[str | Path] = []
        if content is not None:
            (folder / "content").write_bytes(content)
            detached = ["-content", folder / "content"]
        options = ("-binary", "-inform", "DER", "-CAfile", trust, "-purpose", "smimesign")
        done = _run(
            "openssl", "cms", "-verify", *options, "-in", folder / "s.der", "-out", folder / "o", *detached
        )
        if done.returncode:
            return done.stderr.decode(errors="replace")
        return "" if (folder / "o").read_bytes() == CONTENT else "other content"

    return verify


@pytest.fixture(scope="module")
def gpgsm(trust: Path) -> Iterator[Verifier]:
    _need("gpgsm", "gpgconf")
    # A short path: the agent's socket lives there
    with tempfile.TemporaryDirectory(prefix="gpgsm-") as name:
        home = Path(name)
        base = ("gpgsm", "--homedir", home, "--batch", "--no-tty", "--disable-dirmngr")
        fingerprint = hashlib.sha1(authority().der, usedforsecurity=False).hexdigest().upper()
        (home / "trustlist.txt").write_text(f"{fingerprint} S relax\n")
        _run(*base, "--import", trust)

        def verify(blob: bytes, content: bytes | None) -> str:
            (home / "s.der").write_bytes(blob)
            files: list[str | Path] = [home / "s.der"]
            if content is not None:
                (home / "content").write_bytes(content)
                files.append(home / "content")
            done = _run(*base, "--disable-crl-checks", "--status-fd", "1", "--verify", *files)
            status = done.stdout.decode(errors="replace")
            if "GOODSIG" in status and "TRUST_FULLY" in status:
                return ""
            return status + done.stderr.decode(errors="replace")

        yield verify
        _run("gpgconf", "--homedir", home, "--kill", "all")


@pytest.fixture(scope="module")
def nss(trust: Path, tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    _need("certutil", "cmsutil")
    folder = tmp_path_factory.mktemp("nss")
    database = f"sql:{folder}"
    _run("certutil", "-N", "-d", database, "--empty-password")
    _run("certutil", "-A", "-d", database, "-n", "ca", "-t", ",C,", "-i", trust)

    def verify(blob: bytes, content: bytes | None) -> str:
        (folder / "s.der").write_bytes(blob)
        detached: list[str | Path] = []
        if content is not None:
            (folder / "content").write_bytes(content)
            detached = ["-c", folder / "content"]
        done = _run("cmsutil", "-D", "-d", database, "-i", folder / "s.der", "-u", "4", "-h", "0", *detached)
        output = done.stdout.decode(errors="replace")
        # The exit code is 0 whatever happened
        return (
            "" if "signer0.status=GoodSignature" in output else output + done.stderr.decode(errors="replace")
        )

    return verify


TOOLS = [
    pytest.param(tool, scheme, id=f"{tool}-{scheme.value}")
    for tool in ("openssl", "gpgsm", "nss")
    for scheme in EVERY_SCHEME
]


@pytest.mark.parametrize(("tool", "scheme"), TOOLS)
@pytest.mark.parametrize("form", ["detached", "opaque"])
def test_other_verifiers_accept(tool: str, scheme: Scheme, form: str, request: pytest.FixtureRequest) -> None:
    verify: Verifier = request.getfixturevalue(tool)
    if form == "detached":
        answer = verify(sign_detached(scheme), CONTENT)
    else:
        answer = verify(sign_opaque(scheme), None)
    words, why = UNKNOWN.get((tool, scheme), ("", ""))
    if words and words in answer:
        pytest.skip(why)
    assert answer == ""


@pytest.mark.parametrize("tool", ["openssl", "gpgsm", "nss"])
def test_the_verifiers_are_awake(tool: str, request: pytest.FixtureRequest) -> None:
    """A verifier that says yes to changed content would prove nothing above."""
    verify: Verifier = request.getfixturevalue(tool)
    assert verify(sign_detached(Scheme.RSA_PKCS1_SHA256), CONTENT.replace(b"signed", b"forged")) != ""
