"""What `openssl cms -sign` makes, in all its spellings, is read and accepted."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cms.cms_pki import CONTENT, Owner, authority, check_all, owner
from mailsigil.cms.algorithms import Family, Scheme, SchemeError, sign_with
from mailsigil.cms.build import SignatureBuilder
from mailsigil.cms.parse import BytesSource, ContentKind, content_kind, parse_signed_data
from mailsigil.cms.verify import SignerStatus

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def openssl_sign(folder: Path, *options: str, signers: tuple[Owner, ...], content: bytes = CONTENT) -> bytes:
    """`openssl cms -sign` with one or several signers."""
    (folder / "content").write_bytes(content)
    arguments = ["openssl", "cms", "-sign", "-binary", "-outform", "DER", "-in", str(folder / "content")]
    for number, signer in enumerate(signers):
        certificate, key = signer.write(folder, f"signer{number}")
        arguments += ["-signer", str(certificate), "-inkey", str(key)]
    subprocess.run(
        [*arguments, *options, "-out", str(folder / "out")], capture_output=True, check=True, timeout=60
    )
    return (folder / "out").read_bytes()


PSS = ("-keyopt", "rsa_padding_mode:pss")
SPELLINGS = {
    "rsa-detached": ("rsa", ()),
    "rsa-opaque": ("rsa", ("-nodetach",)),
    "rsa-opaque-streamed": ("rsa", ("-nodetach", "-stream")),
    "rsa-sha384": ("rsa", ("-md", "sha384")),
    "rsa-sha512": ("rsa", ("-md", "sha512")),
    "rsa-without-attributes": ("rsa", ("-noattr",)),
    "rsa-without-attributes-opaque": ("rsa", ("-noattr", "-nodetach")),
    "pss-longest-salt": ("rsa", PSS),
    "pss-sha384-without-salt": ("rsa", (*PSS, "-keyopt", "rsa_pss_saltlen:0", "-md", "sha384")),
    "pss-sha512-salt-of-digest": ("rsa", (*PSS, "-keyopt", "rsa_pss_saltlen:-1", "-md", "sha512")),
    "pss-without-attributes": ("rsa", (*PSS, "-noattr")),
    "signer-by-key": ("rsa", ("-keyid",)),
    "with-signing-certificate": ("rsa", ("-cades",)),
    "without-capabilities": ("rsa", ("-nosmimecap",)),
    "p256": ("p256", ("-nodetach",)),
    "p384": ("p384", ("-md", "sha384")),
    "p384-with-sha256": ("p384", ("-md", "sha256")),
    "p521": ("p521", ("-md", "sha512")),
    "p256-without-attributes": ("p256", ("-noattr",)),
}


@pytest.mark.parametrize(("kind", "options"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_openssl_signatures_are_accepted(kind: str, options: tuple[str, ...], tmp_path: Path) -> None:
    blob = openssl_sign(tmp_path, *options, signers=(owner(kind),))
    signed, (check,) = check_all(blob, None if "-nodetach" in options else CONTENT)
    assert (check.status, check.reason) == (SignerStatus.VALID, "")
    assert check.certificate == owner(kind).der
    assert (signed.signers[0].signed_attributes is None) == ("-noattr" in options)
    assert (signed.signers[0].signing_time is None) == ("-noattr" in options)
    assert (signed.content is not None) == ("-nodetach" in options)


def test_streamed_content_is_read_in_pieces(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    blob = openssl_sign(tmp_path, "-nodetach", "-stream", signers=(owner("rsa"),), content=content)
    signed = parse_signed_data(BytesSource(blob))
    assert signed.content is not None
    assert signed.content.size == len(content)
    chunks = list(signed.content_chunks())
    assert b"".join(chunks) == content
    assert max(map(len, chunks)) <= 65536
    assert [check.status for check in check_all(blob)[1]] == [SignerStatus.VALID]


def test_several_signers(tmp_path: Path) -> None:
    blob = openssl_sign(tmp_path, signers=(owner("rsa"), owner("p256"), owner("p384")))
    signed, checks = check_all(blob, CONTENT)
    assert [check.status for check in checks] == [SignerStatus.VALID] * 3
    families = {signer.signature_algorithm.family for signer in signed.signers}
    assert families == {Family.RSA_PKCS1, Family.ECDSA}


def test_certificate_left_out(tmp_path: Path) -> None:
    blob = openssl_sign(tmp_path, "-nocerts", signers=(owner("rsa"),))
    signed, (check,) = check_all(blob, CONTENT)
    assert signed.certificates == ()
    assert check.status is SignerStatus.NO_CERTIFICATE
    assert check.certificate is None
    # The caller may know it from elsewhere
    _, (check,) = check_all(blob, CONTENT, extra=(authority().der, owner("rsa").der))
    assert (check.status, check.certificate) == (SignerStatus.VALID, owner("rsa").der)


@pytest.mark.parametrize("digest", ["sha1", "md5", "sha224"])
def test_weak_digests(digest: str, tmp_path: Path) -> None:
    blob = openssl_sign(tmp_path, "-md", digest, signers=(owner("rsa"),))
    _, (check,) = check_all(blob, CONTENT)
    assert (check.status, check.reason) == (SignerStatus.WEAK_ALGORITHM, f"weak-{digest}")


def test_short_rsa_key(tmp_path: Path) -> None:
    _, (check,) = check_all(openssl_sign(tmp_path, signers=(owner("rsa1024"),)), CONTENT)
    assert (check.status, check.reason) == (SignerStatus.WEAK_ALGORITHM, "rsa-key-too-short")


def test_certificate_for_pss_alone(tmp_path: Path) -> None:
    """RFC 4055 1.2: such a key may not sign in the older way."""
    request = ["openssl", "req", "-x509", "-newkey", "rsa-pss", "-nodes", "-subj", "/CN=Alice", "-days", "9"]
    certificate, key = tmp_path / "pss.pem", tmp_path / "pss.key"
    subprocess.run(
        [*request, "-keyout", str(key), "-out", str(certificate)], capture_output=True, check=True, timeout=60
    )
    loaded = load_pem_private_key(key.read_bytes(), None)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    alice = Owner(loaded, x509.load_pem_x509_certificate(certificate.read_bytes()))
    with pytest.raises(SchemeError, match="RSASSA-PSS"):
        SignatureBuilder(alice.der, [], Scheme.RSA_PKCS1_SHA256)
    builder = SignatureBuilder(alice.der, [], Scheme.RSA_PSS_SHA256)
    attributes = builder.attributes(hashlib.sha256(CONTENT).digest(), None)
    blob = builder.detached(attributes, sign_with(alice.key, builder.scheme, attributes))
    assert check_all(blob, CONTENT)[1][0].status is SignerStatus.VALID
    # Without being told otherwise OpenSSL 3.0 claims rsaEncryption here
    options = ("-signer", str(certificate), "-inkey", str(key))
    signed, (check,) = check_all(openssl_sign(tmp_path, *options, signers=()), CONTENT)
    if signed.signers[0].signature_algorithm.family is Family.RSA_PKCS1:
        assert (check.status, check.reason) == (SignerStatus.CERTIFICATE_MISMATCH, "key-type-contradicts")


def test_digest_we_do_not_know(tmp_path: Path) -> None:
    _, (check,) = check_all(openssl_sign(tmp_path, "-md", "sha3-256", signers=(owner("rsa"),)), CONTENT)
    assert (check.status, check.reason) == (SignerStatus.UNSUPPORTED_ALGORITHM, "unknown-digest-algorithm")


def test_attributes_disguised_as_content(tmp_path: Path) -> None:
    """Somebody's signature over attributes must not become a signature over those attributes as content."""
    genuine = openssl_sign(tmp_path, signers=(owner("rsa"),))
    attributes = parse_signed_data(BytesSource(genuine)).signers[0].signed_attributes
    assert attributes is not None
    blob = openssl_sign(tmp_path, "-noattr", "-nodetach", signers=(owner("rsa"),), content=attributes)
    _, (check,) = check_all(blob)
    assert (check.status, check.reason) == (SignerStatus.MALFORMED, "content-is-attributes")


@pytest.mark.parametrize("options", [("-nodetach",), (), ("-nodetach", "-stream")], ids=" ".join)
def test_kind_of_signatures(options: tuple[str, ...], tmp_path: Path) -> None:
    blob = openssl_sign(tmp_path, *options, signers=(owner("rsa"),))
    assert content_kind(BytesSource(blob)) is ContentKind.SIGNED_DATA


def test_kind_of_other_structures(tmp_path: Path) -> None:
    certificate, _ = owner("rsa").write(tmp_path, "alice")
    (tmp_path / "content").write_bytes(CONTENT)
    files = ["-in", str(tmp_path / "content"), "-out", str(tmp_path / "out"), "-outform", "DER"]
    encrypt = ["openssl", "cms", "-encrypt", "-binary", *files]
    bundle = ["openssl", "crl2pkcs7", "-nocrl", "-certfile", str(certificate), *files[2:]]
    for command, kind in (
        ([*encrypt, "-aes-128-cbc", str(certificate)], ContentKind.ENVELOPED_DATA),
        ([*encrypt, "-aes-128-gcm", str(certificate)], ContentKind.AUTH_ENVELOPED_DATA),
        (bundle, ContentKind.CERTS_ONLY),
    ):
        subprocess.run(command, capture_output=True, check=True, timeout=60)
        assert content_kind(BytesSource((tmp_path / "out").read_bytes())) is kind
    assert content_kind(BytesSource(CONTENT)) is ContentKind.UNKNOWN
    assert content_kind(BytesSource(b"")) is ContentKind.UNKNOWN


def test_digests_are_those_of_the_signers(tmp_path: Path) -> None:
    blob = openssl_sign(tmp_path, "-md", "sha384", "-nodetach", signers=(owner("rsa"),))
    signed = parse_signed_data(BytesSource(blob))
    assert signed.signers[0].message_digest == hashlib.sha384(CONTENT).digest()
