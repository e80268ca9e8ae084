"""Three S/MIME verifiers that other people wrote, each behind the same question: is this accepted?

All judge a signature and the octets that it signs against one authority. None of them compares addresses.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.cms.algorithms import Scheme

TOOLS = ("openssl", "gpgsm", "nss")

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
"""What a tool does not know: the words it says then, and why. A newer one that knows it has to accept."""


class Verifier(Protocol):
    """One tool with its trust set up."""

    def __call__(self, signature: bytes, content: bytes | None, *, inside: bytes | None = None) -> str:
        """Takes a CMS structure in DER and its detached content (None when it is inside).

        Gives "" when the tool accepts, else what it said. A tool that writes out what it verified has to
        find ``inside`` there, where that is given.
        """
        ...


@contextmanager
def verifier(tool: str, root: x509.Certificate) -> Iterator[Verifier]:
    """Sets a tool up to trust one authority; skips the test where it is not installed."""
    with tempfile.TemporaryDirectory(prefix=f"{tool}-") as name:  # a short path: gpg-agent's socket is here
        folder = Path(name)
        match tool:
            case "openssl":
                _need("openssl")
                yield _openssl(folder, root)
            case "gpgsm":
                _need("gpgsm", "gpgconf")
                yield _gpgsm(folder, root)
                _run("gpgconf", "--homedir", folder, "--kill", "all")
            case "nss":
                _need("certutil", "cmsutil")
                yield _nss(folder, root)
            case _:
                raise ValueError(tool)


def expect_acceptance(tool: str, scheme: Scheme, answer: str) -> None:
    """Fails unless the tool accepted; skips where it is known not to know the scheme."""
    words, why = UNKNOWN.get((tool, scheme), ("", ""))
    if words and words in answer:
        pytest.skip(why)
    if answer:
        pytest.fail(f"{tool} does not accept {scheme.value}: {answer[:1000]}")


class Verifiers:
    """All tools for one authority, each set up when it is first asked."""

    def __init__(self, root: x509.Certificate) -> None:
        self._root = root
        self._stack = ExitStack()
        self._ready: dict[str, Verifier] = {}

    def __getitem__(self, tool: str) -> Verifier:
        if tool not in self._ready:
            self._ready[tool] = self._stack.enter_context(verifier(tool, self._root))
        return self._ready[tool]

    def __enter__(self) -> Verifiers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(a) for a in arguments], capture_output=True, timeout=60, check=False)


def _text(*outputs: bytes) -> str:
    return b"".join(outputs).decode(errors="replace")


def _put(folder: Path, signature: bytes, content: bytes | None) -> tuple[Path, Path | None]:
    (folder / "s.der").write_bytes(signature)
    if content is None:
        return folder / "s.der", None
    (folder / "content").write_bytes(content)
    return folder / "s.der", folder / "content"


def _openssl(folder: Path, root: x509.Certificate) -> Verifier:
    (folder / "ca.pem").write_bytes(root.public_bytes(Encoding.PEM))
    base = ("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-purpose", "smimesign")

    def verify(signature: bytes, content: bytes | None, *, inside: bytes | None = None) -> str:
        blob, detached = _put(folder, signature, content)
        more = ("-content", detached) if detached else ()
        done = _run(*base, "-CAfile", folder / "ca.pem", "-in", blob, "-out", folder / "out", *more)
        if done.returncode:
            return _text(done.stderr) or "refused without a word"
        expected = content if inside is None else inside
        return "" if expected in (None, (folder / "out").read_bytes()) else "other content"

    return verify


def _gpgsm(folder: Path, root: x509.Certificate) -> Verifier:
    der = root.public_bytes(Encoding.DER)
    base = ("gpgsm", "--homedir", folder, "--batch", "--no-tty", "--disable-dirmngr")
    fingerprint = hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()
    (folder / "trustlist.txt").write_text(f"{fingerprint} S relax\n")
    (folder / "ca.pem").write_bytes(root.public_bytes(Encoding.PEM))
    _run(*base, "--import", folder / "ca.pem")

    def verify(signature: bytes, content: bytes | None, *, inside: bytes | None = None) -> str:
        files = [path for path in _put(folder, signature, content) if path is not None]
        done = _run(*base, "--disable-crl-checks", "--status-fd", "1", "--verify", *files)
        status = _text(done.stdout)
        accepted = "GOODSIG" in status and "TRUST_FULLY" in status
        return "" if accepted else status + _text(done.stderr)

    return verify


def _nss(folder: Path, root: x509.Certificate) -> Verifier:
    database = f"sql:{folder}"
    (folder / "ca.pem").write_bytes(root.public_bytes(Encoding.PEM))
    _run("certutil", "-N", "-d", database, "--empty-password")
    _run("certutil", "-A", "-d", database, "-n", "ca", "-t", ",C,", "-i", folder / "ca.pem")

    def verify(signature: bytes, content: bytes | None, *, inside: bytes | None = None) -> str:
        blob, detached = _put(folder, signature, content)
        more = ("-c", detached) if detached else ()
        done = _run("cmsutil", "-D", "-d", database, "-i", blob, "-u", "4", "-h", "0", *more)
        # The exit status is 0 whatever happened.
        accepted = "signer0.status=GoodSignature" in _text(done.stdout)
        return "" if accepted else _text(done.stdout, done.stderr)

    return verify
