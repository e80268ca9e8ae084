"""Lists and answers in each way of signing that is accepted, by OpenSSL where it can, and in others."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp

from mailsigil.pki.crl import check_crl, judge_crl
from mailsigil.pki.evidence import Link, RevocationStatus, Unusable
from mailsigil.pki.ocsp import judge_ocsp
from mailsigil.pki.parsed import parse_certificate
from mailsigil.pki.signatures import signed_part
from pki import pki_make as make
from pki import publisher as pub
from pki.pki_make import Made
from spare_keys import rsa_key
from stopwatch import work_of_less_than

GOOD, REVOKED = RevocationStatus.GOOD, RevocationStatus.REVOKED
NOW = datetime.now(UTC).replace(microsecond=0)
DAYS = ((NOW - make.NOW).days - 2, (NOW - make.NOW).days + 30)
RSA = rsa_key()
P256 = ec.generate_private_key(ec.SECP256R1())
PSS = ("rsa_padding_mode:pss",)


def _salted(salt: str, *more: str) -> tuple[str, ...]:
    return (*PSS, f"rsa_pss_saltlen:{salt}", *more)


# The key, the hash algorithm, options of OpenSSL, and whether it is accepted.
WAYS: dict[str, tuple[Any, str, Sequence[str], bool]] = {
    "RSA, SHA-256": (RSA, "sha256", (), True),
    "RSA, SHA-512": (RSA, "sha512", (), True),
    "RSA, SHA-1": (RSA, "sha1", (), False),
    "RSA, SHA-224": (RSA, "sha224", (), False),
    "PSS, SHA-256": (RSA, "sha256", _salted("digest"), True),
    "PSS, SHA-512": (RSA, "sha512", _salted("digest"), True),
    "PSS, a short salt": (RSA, "sha256", _salted("20"), True),
    "PSS, the longest salt": (RSA, "sha256", _salted("max"), True),
    "PSS, another mask": (RSA, "sha256", _salted("32", "rsa_mgf1_md:sha512"), True),
    "PSS, SHA-1": (RSA, "sha1", _salted("20"), False),
    "PSS, a mask of SHA-1": (RSA, "sha256", _salted("32", "rsa_mgf1_md:sha1"), False),
    "P-256": (P256, "sha256", (), True),
    "P-256, SHA-1": (P256, "sha1", (), False),
    "P-384": (ec.generate_private_key(ec.SECP384R1()), "sha384", (), True),
    "P-521": (ec.generate_private_key(ec.SECP521R1()), "sha512", (), True),
    "brainpool": (ec.generate_private_key(ec.BrainpoolP256R1()), "sha256", (), True),
}


def _files(folder: Path, issuer: Made, about: Made) -> None:
    key = issuer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "ca.key").write_bytes(key)
    (folder / "ca.pem").write_bytes(issuer.certificate.public_bytes(Encoding.PEM))
    (folder / "about.pem").write_bytes(about.certificate.public_bytes(Encoding.PEM))
    serial = f"{about.certificate.serial_number:X}"
    end = f"{about.certificate.not_valid_after_utc:%y%m%d%H%M%SZ}"
    (folder / "index.txt").write_text(
        f"V\t{end}\t\t{serial.zfill(len(serial) + len(serial) % 2)}\tx\t/CN=x\n"
    )
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\ncertificate=ca.pem\nprivate_key=ca.key\n"
        "default_md=sha256\ndefault_crl_days=7\nunique_subject=no\n"
    )


def _run(folder: Path, *command: str) -> None:
    subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)


def _options(name: str, options: Sequence[str]) -> list[str]:
    return [part for option in options for part in (name, option)]


def _link(key: Any) -> tuple[Made, Made, Link]:
    issuer = make.root(key=key, days=DAYS)
    about = make.leaf(issuer, days=DAYS)
    return issuer, about, Link(parse_certificate(about.der), parse_certificate(issuer.der))


@pytest.mark.parametrize("way", WAYS)
def test_openssl_signs_a_list(tmp_path: Path, way: str) -> None:
    key, digest, options, accepted = WAYS[way]
    issuer, about, link = _link(key)
    _files(tmp_path, issuer, about)
    command = ("ca", "-config", "ca.cnf", "-gencrl", "-md", digest, "-out", "list.pem")
    _run(tmp_path, *command, *_options("-sigopt", options))
    data = x509.load_pem_x509_crl((tmp_path / "list.pem").read_bytes()).public_bytes(Encoding.DER)
    if not accepted:
        with pytest.raises(Unusable, match=r"was signed with"):
            check_crl(data, link.issuer)
        return
    assert judge_crl(check_crl(data, link.issuer), link).status is GOOD
    with pytest.raises(Unusable):
        check_crl(_spoilt_list(data), link.issuer)


@pytest.mark.parametrize("way", WAYS)
def test_openssl_signs_an_answer(tmp_path: Path, way: str) -> None:
    key, digest, options, accepted = WAYS[way]
    issuer, about, link = _link(key)
    _files(tmp_path, issuer, about)
    _run(tmp_path, "ocsp", "-issuer", "ca.pem", "-cert", "about.pem", "-no_nonce", "-reqout", "request")
    command = ["ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "ca.pem", "-rkey", "ca.key"]
    command += ["-reqin", "request", "-respout", "answer", "-ndays", "1", "-rmd", digest]
    _run(tmp_path, *command, *_options("-rsigopt", options))
    data = (tmp_path / "answer").read_bytes()
    if not accepted:
        with pytest.raises(Unusable, match=r"was signed with"):
            judge_ocsp(data, link, at=NOW)
        return
    assert judge_ocsp(data, link, at=NOW).status is GOOD
    with pytest.raises(Unusable):
        judge_ocsp(_spoilt_answer(data), link, at=NOW)


def _spoilt(data: bytes, signature: bytes) -> bytes:
    return data.replace(signature, signature[:-1] + bytes([signature[-1] ^ 1]))


def _spoilt_list(data: bytes) -> bytes:
    return _spoilt(data, x509.load_der_x509_crl(data).signature)


def _spoilt_answer(data: bytes) -> bytes:
    return _spoilt(data, ocsp.load_der_ocsp_response(data).signature)


def test_ed25519() -> None:
    """OpenSSL's own commands cannot answer with such a key, so ``cryptography`` does."""
    key = ed25519.Ed25519PrivateKey.generate()
    issuer, about, link = _link(key)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    builder = builder.last_update(NOW).next_update(NOW + timedelta(days=1))
    data = builder.sign(key, None).public_bytes(Encoding.DER)
    assert judge_crl(check_crl(data, link.issuer), link).status is GOOD
    answer = ocsp.OCSPResponseBuilder().add_response(
        cert=about.certificate,
        issuer=issuer.certificate,
        algorithm=hashes.SHA256(),
        cert_status=ocsp.OCSPCertStatus.GOOD,
        this_update=NOW,
        next_update=NOW + timedelta(days=1),
        revocation_time=None,
        revocation_reason=None,
    )
    answer = answer.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.certificate)
    response = answer.sign(key, None).public_bytes(Encoding.DER)
    assert judge_ocsp(response, link, at=NOW).status is GOOD
    with pytest.raises(Unusable):
        check_crl(_spoilt_list(data), link.issuer)
    with pytest.raises(Unusable):
        judge_ocsp(_spoilt_answer(response), link, at=NOW)


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([128 | len(octets)]) + octets) + content


def _long_list(issuer: Made, entries: int, serials: Sequence[int]) -> bytes:
    """A list of many, put together by hand: honest libraries take a minute for it."""
    date = _tlv(0x17, b"260101000000Z")
    numbers = [number.to_bytes(16) for number in range(1 << 120, (1 << 120) + entries)]
    numbers += [serial.to_bytes(serial.bit_length() // 8 + 1) for serial in serials]
    revoked = b"".join(_tlv(0x30, _tlv(2, number) + date) for number in numbers)
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    issued = issuer.certificate.subject.public_bytes()
    times = b"".join(_tlv(0x17, f"{when:%y%m%d%H%M%SZ}".encode()) for when in (NOW, NOW + timedelta(days=7)))
    signed = _tlv(0x30, b"\x02\x01\x01" + algorithm + issued + times + _tlv(0x30, revoked))
    signature = issuer.key.sign(signed, ec.ECDSA(hashes.SHA256()))
    return _tlv(0x30, signed + algorithm + _tlv(3, b"\x00" + signature))


def test_a_list_of_hundred_thousands_is_read_and_asked_quickly() -> None:
    issuer, _, link = _link(P256)
    other = make.leaf(issuer, days=DAYS)
    data = _long_list(issuer, 200_000, [other.certificate.serial_number])
    with work_of_less_than(1):  # 0.06 s on an idle machine; seconds when each entry is written anew
        checked = check_crl(data, link.issuer)
        assert judge_crl(checked, link).status is GOOD
        assert judge_crl(checked, Link(parse_certificate(other.der), link.issuer)).status is REVOKED
    with work_of_less_than(1):
        for _ in range(10):
            judge_crl(checked, link)


def test_a_signature_is_a_number_of_octets() -> None:
    """The same signature with bits that do not count is the same to a reader that takes octets."""
    issuer, about, link = _link(P256)
    for data, judge in (
        (pub.crl(issuer), lambda octets: check_crl(octets, link.issuer)),
        (pub.answer(issuer, about), lambda octets: judge_ocsp(octets, link, at=make.NOW)),
    ):
        # Tag, length and the count of unused bits of a signature that is 70 to 72 octets long.
        (changed,) = {
            data.replace(bytes([3, size, 0, 0x30]), bytes([3, size, 1, 0x30])) for size in range(0x45, 0x4A)
        } - {data}
        with pytest.raises(Unusable):
            judge(changed)


def test_the_signed_part_is_what_the_library_calls_so() -> None:
    issuer, about, _ = _link(P256)
    for data in (_long_list(issuer, 3, []), pub.crl(issuer, about), pub.crl(issuer)):
        assert signed_part(data) == x509.load_der_x509_crl(data).tbs_certlist_bytes
