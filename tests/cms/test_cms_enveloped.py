"""Encrypted mail of other programs: OpenSSL, GnuPG's gpgsm and NSS, in every way that S/MIME knows."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    load_pem_private_key,
    pkcs12,
)

from envelopes import BOB, ENTITY, Person, authority, encrypt, make_key, person
from mailsigil.cms.ber import BytesSource
from mailsigil.cms.content import CipherKind, DecryptionFailed, UnknownCipher, content_cipher, decrypt_content
from mailsigil.cms.enveloped import Enveloped, parse_enveloped
from mailsigil.cms.recipients import KeyScheme, RecipientIdentifier
from mailsigil.cms.values import certificate_identity


def opened(cms: bytes, by: Person, folder: Path, *, number: int = 0) -> bytes:
    """The content, by the key of one recipient."""
    enveloped = parse_enveloped(BytesSource(cms))
    return _content(enveloped, by, folder, number)


def _content(enveloped: Enveloped, by: Person, folder: Path, number: int) -> bytes:
    size = content_cipher(enveloped.algorithm).key_size
    key = by.soft_key(folder).unwrap(enveloped.recipients[number].wrapped, size)
    return b"".join(decrypt_content(enveloped, key))


OAEP = ("-keyopt", "rsa_padding_mode:oaep")
TRANSPORTS = {
    "pkcs1": ((), KeyScheme.RSA_PKCS1),
    "oaep-sha1": (OAEP, KeyScheme.RSA_OAEP),
    "oaep-sha256": ((*OAEP, "-keyopt", "rsa_oaep_md:sha256"), KeyScheme.RSA_OAEP),
    "oaep-sha512-mgf1-sha256": (
        (*OAEP, "-keyopt", "rsa_oaep_md:sha512", "-keyopt", "rsa_mgf1_md:sha256"),
        KeyScheme.RSA_OAEP,
    ),
    "oaep-with-label": (
        (*OAEP, "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_oaep_label:6d61696c"),
        KeyScheme.RSA_OAEP,
    ),
}


@pytest.mark.parametrize("name", TRANSPORTS)
def test_rsa_of_openssl(name: str, tmp_path: Path) -> None:
    options, scheme = TRANSPORTS[name]
    cms = encrypt(ENTITY, (person("rsa"),), tmp_path, options=options)
    assert parse_enveloped(BytesSource(cms)).recipients[0].wrapped.scheme is scheme
    assert opened(cms, person("rsa"), tmp_path) == ENTITY


@pytest.mark.parametrize("curve", ["p256", "p384", "p521"])
@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
def test_ecdh_of_openssl(curve: str, digest: str, tmp_path: Path) -> None:
    options = ("-keyopt", f"ecdh_kdf_md:{digest}")
    cms = encrypt(ENTITY, (person(curve),), tmp_path, options=options)
    wrapped = parse_enveloped(BytesSource(cms)).recipients[0].wrapped
    assert (wrapped.scheme, wrapped.digest) == (KeyScheme.ECDH, digest)
    assert opened(cms, person(curve), tmp_path) == ENTITY


CIPHERS = {
    "-aes-128-cbc": CipherKind.AES_CBC,
    "-aes-192-cbc": CipherKind.AES_CBC,
    "-aes-256-cbc": CipherKind.AES_CBC,
    "-aes-128-gcm": CipherKind.AES_GCM,
    "-aes-192-gcm": CipherKind.AES_GCM,
    "-aes-256-gcm": CipherKind.AES_GCM,
    "-des3": CipherKind.TRIPLE_DES_CBC,
}


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 300_000])
def test_ciphers_of_openssl(cipher: str, size: int, tmp_path: Path) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    cms = encrypt(content, (person("rsa"),), tmp_path, cipher=cipher)
    enveloped = parse_enveloped(BytesSource(cms))
    assert content_cipher(enveloped.algorithm).kind is CIPHERS[cipher]
    assert opened(cms, person("rsa"), tmp_path) == content


@pytest.mark.parametrize("arguments", [("-stream",), ("-stream", "-indef"), ("-keyid",)])
def test_forms_of_openssl(arguments: tuple[str, ...], tmp_path: Path) -> None:
    cms = encrypt(ENTITY * 5000, (person("p256"), person("rsa")), tmp_path, *arguments)
    recipients = parse_enveloped(BytesSource(cms)).recipients
    schemes = [each.wrapped.scheme for each in recipients]
    for each, scheme in ((person("p256"), KeyScheme.ECDH), (person("rsa"), KeyScheme.RSA_PKCS1)):
        number = schemes.index(scheme)  # a SET is in the order of its octets
        issuer, serial = certificate_identity(each.der)
        named = RecipientIdentifier(issuer=issuer, serial=serial)
        assert (recipients[number].identifier == named) is ("-keyid" not in arguments)
        assert opened(cms, each, tmp_path, number=number) == ENTITY * 5000


@pytest.mark.parametrize("cipher", ["-rc2-128", "-rc4", "-des", "-camellia-128-cbc"])
def test_other_ciphers_are_not_read(cipher: str, tmp_path: Path) -> None:
    try:
        cms = encrypt(
            ENTITY, (person("rsa"),), tmp_path, "-provider", "legacy", "-provider", "default", cipher=cipher
        )
    except RuntimeError as error:
        pytest.skip(f"this OpenSSL does not make {cipher}: {error}")
    with pytest.raises(UnknownCipher):
        content_cipher(parse_enveloped(BytesSource(cms)).algorithm)


def test_altered_gcm_is_refused_and_altered_cbc_is_not(tmp_path: Path) -> None:
    """Why CBC is not believed: this is all that an attacker has to do."""
    for cipher, refused in (("-aes-256-gcm", True), ("-aes-256-cbc", False)):
        cms = bytearray(encrypt(ENTITY * 10, (person("rsa"),), tmp_path, cipher=cipher))
        content = parse_enveloped(BytesSource(bytes(cms))).content
        cms[content.start + 40] ^= 1
        if refused:
            with pytest.raises(DecryptionFailed):
                opened(bytes(cms), person("rsa"), tmp_path)
        else:
            assert opened(bytes(cms), person("rsa"), tmp_path) != ENTITY * 10


@pytest.mark.parametrize("at", ["mac", "iv"])
def test_gcm_covers_tag_and_nonce(at: str, tmp_path: Path) -> None:
    cms = encrypt(ENTITY, (person("rsa"),), tmp_path, cipher="-aes-128-gcm")
    enveloped = parse_enveloped(BytesSource(cms))
    octets = enveloped.mac if at == "mac" else content_cipher(enveloped.algorithm).start
    altered = cms.replace(octets, bytes([octets[0] ^ 1]) + octets[1:])
    assert altered != cms
    with pytest.raises(DecryptionFailed):
        opened(altered, person("rsa"), tmp_path)


@pytest.mark.parametrize(
    ("kind", "options"), [("rsa", ()), ("rsa", OAEP), ("p256", ())], ids=["pkcs1", "oaep", "ecdh"]
)
def test_another_key_gives_nothing(kind: str, options: tuple[str, ...], tmp_path: Path) -> None:
    cms = encrypt(ENTITY, (person(kind),), tmp_path, options=options, cipher="-aes-128-gcm")
    with pytest.raises(DecryptionFailed):
        opened(cms, person(f"{kind}#2"), tmp_path)


def test_a_wrong_pkcs1_padding_is_no_oracle(tmp_path: Path) -> None:
    """Whatever is sent, a key of the right size comes back, the same for the same text."""
    key = person("rsa").soft_key(tmp_path)
    cms = encrypt(ENTITY, (person("rsa"),), tmp_path)
    wrapped = parse_enveloped(BytesSource(cms)).recipients[0].wrapped
    true = key.unwrap(wrapped, 32)
    flipped = wrapped.encrypted[:-1] + bytes([wrapped.encrypted[-1] ^ 1])
    for altered in (bytes(256), b"\xff" * 256, flipped, b"short", b""):
        other = type(wrapped)(scheme=wrapped.scheme, encrypted=altered)
        given = key.unwrap(other, 32)
        assert len(given) == 32
        assert given != true
        assert key.unwrap(other, 32) == given
    # The wrong size is answered in the same way.
    assert key.unwrap(wrapped, 16) != true[:16]
    assert len(key.unwrap(wrapped, 16)) == 16


@pytest.mark.parametrize("usage", ["both", "encryption", "none"])
def test_keys_for_encryption_open(usage: str, tmp_path: Path) -> None:
    cms = encrypt(ENTITY, (person("rsa", usage=usage),), tmp_path)
    assert opened(cms, person("rsa", usage=usage), tmp_path) == ENTITY


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_a_key_for_signatures_alone_opens_nothing(kind: str, tmp_path: Path) -> None:
    cms = encrypt(ENTITY, (person(kind),), tmp_path)
    with pytest.raises(DecryptionFailed):
        opened(cms, person(kind, usage="signing"), tmp_path)


def test_a_key_for_encryption_alone_signs_nothing(tmp_path: Path) -> None:
    key = person("rsa", usage="encryption").soft_key(tmp_path)
    assert key.credential.schemes == ()
    with pytest.raises(ValueError, match="does not sign"):
        key.sign("rsa-pkcs1-sha256", b"x")


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_the_keys_of_rfc_9216(name: str, corpus: Callable[[str], Path], tmp_path: Path) -> None:
    """Alice and Bob have a certificate for encryption alone, beside another one for signatures."""
    (folder,) = {path.parent for path in corpus("rfc9216").rglob("*.pem")}
    pem = (folder / f"{name}_s_encryption_end_entity_certificate.pem").read_bytes()
    key = load_pem_private_key((folder / f"{name}_s_decryption_private_key_material.pem").read_bytes(), None)
    owner = Person(key, x509.load_pem_x509_certificate(pem))  # type: ignore[arg-type]
    cms = encrypt(ENTITY, (owner,), tmp_path)
    assert opened(cms, owner, tmp_path) == ENTITY
    assert owner.soft_key(tmp_path).credential.schemes == ()


# --- gpgsm and NSS ---------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("gpgsm") is None, reason="gpgsm is not installed")
@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_gpgsm(kind: str, tmp_path: Path) -> None:
    bob = person(kind, usage="none")  # its version 2.2 knows no keyAgreement
    # Its agent wants a short path for its socket.
    with tempfile.TemporaryDirectory(prefix="gpgsm") as home:
        Path(home).chmod(0o700)
        fingerprint = authority().fingerprint(hashes.SHA1()).hex().upper()
        (Path(home) / "trustlist.txt").write_text(f"{fingerprint} S relax\n")
        gpgsm = ["gpgsm", "--homedir", home, "--batch", "--disable-dirmngr", "--disable-crl-checks"]
        for certificate in (authority(), bob.certificate):
            pem = certificate.public_bytes(Encoding.PEM)
            subprocess.run([*gpgsm, "--import"], input=pem, check=True, capture_output=True, timeout=30)
        command = [*gpgsm, "--encrypt", "-r", BOB]
        done = subprocess.run(command, input=ENTITY, capture_output=True, timeout=30)
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], capture_output=True, timeout=30)
    if b"ksba_cms_set_enc_val failed" in done.stderr:
        pytest.skip("gpgsm 2.2 does not encrypt to elliptic keys")
    assert done.returncode == 0, done.stderr.decode()
    assert opened(done.stdout, bob, tmp_path) == ENTITY


@pytest.mark.skipif(shutil.which("cmsutil") is None, reason="NSS's cmsutil is not installed")
def test_nss(tmp_path: Path) -> None:
    bob = person("rsa")
    database = f"sql:{tmp_path}"
    bag = tmp_path / "bob.p12"
    bag.write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"bob", make_key("rsa"), bob.certificate, None, BestAvailableEncryption(b"x")
        )
    )
    for command in (
        ["certutil", "-N", "-d", database, "--empty-password"],
        ["pk12util", "-i", str(bag), "-d", database, "-W", "x"],
        ["certutil", "-M", "-d", database, "-n", "bob", "-t", "P,P,P"],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    (tmp_path / "in").write_bytes(ENTITY)
    command = [
        "cmsutil",
        "-E",
        "-d",
        database,
        "-r",
        BOB,
        "-i",
        str(tmp_path / "in"),
        "-o",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    assert opened((tmp_path / "out").read_bytes(), bob, tmp_path) == ENTITY
