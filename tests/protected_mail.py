"""Mail of others that is signed or encrypted already, and mail that only says so."""

from __future__ import annotations

import base64
import tempfile
from functools import cache
from pathlib import Path

import bank
from envelopes import encrypt, person
from mailsigil.message.fields import parse_fields

Sample = tuple[bytes, bytes]
"""Content fields and body."""

ARMOUR = b"-----BEGIN PGP MESSAGE-----\r\n\r\nhQEMA5x\r\n-----END PGP MESSAGE-----\r\n"
PGP_SIGNATURE = b"-----BEGIN PGP SIGNATURE-----\r\n\r\niQEz\r\n-----END PGP SIGNATURE-----\r\n"
CLEAR_TEXT = (
    b"\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\nHello\r\n" + PGP_SIGNATURE  # RFC 9580 7
)
TEXT = b"Content-Type: text/plain\r\n\r\nHello"
OPENED = b"Please pay 5,000 to this account.\r\n"


@cache
def _signed(form: str) -> Sample:
    raw = bank.signed(bank.mail(), form=form)
    fields, start = parse_fields(raw)
    return b"".join(field.raw for field in fields if field.key.startswith(b"content-")), raw[start:]


def _lines(cms: bytes) -> bytes:
    return base64.encodebytes(cms).replace(b"\n", b"\r\n")


@cache
def signed_data() -> bytes:
    """A CMS structure with content and signature, in lines of base64."""
    return _signed("opaque")[1]


@cache
def detached() -> bytes:
    """A CMS signature without content, in lines of base64."""
    _, _, part = _signed("clear")[1].rpartition(b"Content-Disposition:")
    return part.partition(b"\r\n\r\n")[2].partition(b"\r\n--")[0]


@cache
def enveloped(cipher: str = "-aes-256-cbc") -> bytes:
    """What OpenSSL encrypts, in lines of base64."""
    with tempfile.TemporaryDirectory() as folder:
        entity = b"Content-Type: text/plain\r\n\r\nHello\r\n"
        return _lines(encrypt(entity, (person("p256"),), Path(folder), cipher=cipher))


def parts(*written: bytes) -> bytes:
    """A multipart body with the boundary b."""
    return b"".join(b"--b\r\n%b\r\n" % part for part in written) + b"--b--\r\n"


def typed(text: str, body: bytes, *more: str) -> Sample:
    """A body under a Content-Type."""
    return "".join(f"{line}\r\n" for line in (f"Content-Type: {text}", *more)).encode(), body


BASE64 = "Content-Transfer-Encoding: base64"


def _part(kind: str, content: bytes, *more: str) -> bytes:
    fields, _ = typed(kind, b"", *more)
    return fields + b"\r\n" + content


def _pgp(kind: str, first: bytes, second: bytes) -> Sample:
    return typed(kind + "; boundary=b", parts(first, second))


@cache
def genuine() -> dict[str, Sample]:
    """What is protected."""
    signature = _part("application/pkcs7-signature; name=smime.p7s", detached(), BASE64)
    old = _part("Application/X-PKCS7-Signature", detached(), BASE64)
    kind = "multipart/signed; protocol="
    return {
        "clear-signed": _signed("clear"),
        "clear-signed-by-others": typed(
            f'{kind}"application/pkcs7-signature"; micalg=sha-256; boundary=b', parts(TEXT, signature)
        ),
        "clear-signed-old-name-and-odd-case": typed(
            'Multipart/SIGNED; Protocol="Application/X-PKCS7-Signature"; boundary=b', parts(TEXT, old)
        ),
        "opaque": _signed("opaque"),
        "opaque-old-name-upper-case": typed(
            "APPLICATION/X-PKCS7-MIME; name=smime.p7m", signed_data(), BASE64
        ),
        "pkcs7-mime-without-type": typed("application/pkcs7-mime", signed_data(), BASE64),
        "encrypted": typed("application/pkcs7-mime; smime-type=enveloped-data", enveloped(), BASE64),
        "encrypted-and-authenticated": typed(
            "application/pkcs7-mime; smime-type=authEnveloped-data", enveloped("-aes-256-gcm"), BASE64
        ),
        "encrypted-in-binary": typed(
            "application/pkcs7-mime", base64.b64decode(enveloped()), "Content-Transfer-Encoding: binary"
        ),
        "octet-stream-p7m": typed("application/octet-stream; name=SMIME.P7M", enveloped(), BASE64),
        "octet-stream-p7m-in-disposition": typed(
            "application/octet-stream",
            signed_data(),
            BASE64,
            "Content-Disposition: attachment; filename=smime.p7m",
        ),
        "pgp-signed": _pgp(
            f'{kind}"application/pgp-signature"; micalg=pgp-sha256',
            TEXT,
            _part("application/pgp-signature; name=signature.asc", PGP_SIGNATURE),
        ),
        "pgp-encrypted": _pgp(
            'multipart/encrypted; protocol="application/pgp-encrypted"',
            b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n",
            _part("application/octet-stream; name=encrypted.asc", ARMOUR),
        ),
        **_with_faults(),
        "application-pgp": typed("application/pgp; format=text", ARMOUR),
        "inline-pgp": (b"", ARMOUR),
        "inline-pgp-signed": (b"", CLEAR_TEXT),
        "inline-pgp-with-blank-lines-around": (b"", b"\r\n \r\n" + ARMOUR.rstrip() + b" \t\r\n\r\n"),
        "inline-pgp-longer-than-a-chunk": (b"", ARMOUR.replace(b"hQEMA5x\r\n", b"hQEMA5xA\r\n" * 20_000)),
        "inline-pgp-in-two-texts": typed(
            "multipart/mixed; boundary=b",
            parts(_part("text/plain", ARMOUR), _part("text/plain; name=file.asc", ARMOUR)),
        ),
        "inline-pgp-in-the-first-part": typed(
            "multipart/mixed; boundary=b",
            parts(_part("text/plain", ARMOUR), _part("application/octet-stream", ARMOUR)),
        ),
    }


@cache
def _with_faults() -> dict[str, Sample]:
    """What is protected, and no doubt: a fault of its outside leaves type, protocol and boundary alone."""
    kind = 'multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary=b'
    pgp = 'multipart/signed; protocol="application/pgp-signature"; micalg=pgp-sha256; boundary=b'
    signature = _part("application/pkcs7-signature; name=smime.p7s", detached(), BASE64)
    signed = parts(TEXT, signature)
    octets, opaque = "application/octet-stream", "application/pkcs7-mime"
    named = "Content-Disposition: attachment; filename=Smime.P7S"
    armoured = _part(octets + "; name=signature.asc", PGP_SIGNATURE)
    return {
        "parameter-twice": typed(kind + "; micalg=sha-512", signed),
        "parameter-without-quotes": typed(kind + "; charset=", signed),
        "name-twice": typed(f"{opaque}; name=smime.p7m; name*=UTF-8''smime.p7m", enveloped(), BASE64),
        "name-without-quotes": typed(opaque + "; name=my smime.p7m", enveloped(), BASE64),
        "type-twice-and-equal": typed(kind, signed, "Content-Type: " + kind),
        "multipart-in-base64": typed(kind, signed, BASE64),
        "multipart-in-quoted-printable": typed(kind, signed, "Content-Transfer-Encoding: quoted-printable"),
        "without-end": typed(kind, signed.replace(b"--b--\r\n", b"")),
        "signature-as-octets": typed(
            kind, parts(TEXT, _part(octets + "; name=smime.p7s", detached(), BASE64))
        ),
        "signature-as-octets-named-elsewhere": typed(
            kind, parts(TEXT, _part(octets, detached(), BASE64, named))
        ),
        "signature-as-pkcs7-mime": typed(kind, parts(TEXT, _part(opaque, detached(), BASE64))),
        "pgp-signature-as-octets": typed(pgp, parts(TEXT, armoured)),
    }


@cache
def pretended() -> dict[str, Sample]:
    """What is not, and readers see its text."""
    kind = 'multipart/signed; protocol="application/pkcs7-signature"; boundary=b'
    empty = _part("application/pkcs7-signature", b"MAA=\r\n", BASE64)
    signature = _part("application/pkcs7-signature", detached(), BASE64)
    certificates = bytes.fromhex("302306092a864886f70d010702a01630140201013100300b06092a864886f70d0107013100")
    armour = _part("text/plain", ARMOUR)
    odd = 'multipart/signed; protocol="application/x-odd"; boundary=b'
    encrypted = 'multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b'
    version = b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
    return {
        "signed-a-header-alone": typed(kind, OPENED),
        "signed-one-part": typed(kind, parts(TEXT)),
        "signed-three-parts": typed(kind, parts(TEXT, TEXT, signature)),
        "signed-second-is-text": typed(kind, parts(TEXT, TEXT)),
        "signed-second-is-no-cms": typed(kind, parts(TEXT, empty)),
        "signed-without-protocol": typed("multipart/signed; boundary=b", parts(TEXT, signature)),
        "signed-by-an-odd-protocol": typed(odd, parts(TEXT, _part("application/x-odd", b"x"))),
        "signed-by-pgp-in-words": typed(
            'multipart/signed; protocol="application/pgp-signature"; boundary=b',
            parts(TEXT, _part("application/pgp-signature", b"signed, believe me\r\n")),
        ),
        "boundary-twice": typed(kind + "; boundary=c", parts(TEXT, signature)),
        "boundary-twice-in-pieces": typed(kind + "; boundary*0=c", parts(TEXT, signature)),
        "boundary-without-quotes": typed(kind + " c", parts(TEXT, signature).replace(b"--b", b"--b c")),
        "protocol-twice": typed(kind + "; protocol=x", parts(TEXT, signature)),
        "boundary-in-another-parameter": typed(kind + "; x=y boundary=c", parts(TEXT, signature)),
        "boundary-in-an-open-quote": typed(kind + '; x=y"; boundary=c', parts(TEXT, signature)),
        "boundary-in-a-comment": typed(kind + " (; boundary=c", parts(TEXT, signature)),
        "signature-as-octets-without-name": typed(
            kind, parts(TEXT, _part("application/octet-stream", detached(), BASE64))
        ),
        "signature-as-octets-that-is-a-text": typed(
            kind, parts(TEXT, _part("application/octet-stream; name=smime.p7s", OPENED))
        ),
        "second-content-type": typed(
            "text/html", OPENED, 'Content-Type: multipart/signed; protocol="application/pkcs7-signature"'
        ),
        "opaque-and-text": typed("application/pkcs7-mime; smime-type=signed-data", OPENED),
        "opaque-and-second-content-type": typed(
            "application/pkcs7-mime", signed_data(), "Content-Type: text/html", BASE64
        ),
        "certificates-alone": typed("application/pkcs7-mime", _lines(certificates), BASE64),
        "compressed": typed(
            "application/pkcs7-mime; smime-type=compressed-data",
            _lines(bytes.fromhex("3011060b2a864886f70d0109100109a0023000")),
            BASE64,
        ),
        "octet-stream-p7m-that-is-a-text": typed("application/octet-stream; name=smime.p7m", OPENED),
        "encrypted-a-header-alone": typed(encrypted, OPENED),
        "encrypted-without-protocol": typed("multipart/encrypted; boundary=b", parts(version, ARMOUR)),
        "encrypted-text": typed(encrypted, parts(version, _part("application/octet-stream", OPENED))),
        "encrypted-html": typed(encrypted, parts(version, _part("text/html", ARMOUR))),
        "application-pgp-that-is-a-text": typed("application/pgp", OPENED),
        "pgp-quoted": (b"", b"Hello,\r\n" * 40 + ARMOUR),
        "pgp-quoted-in-the-second-line": (b"", OPENED + ARMOUR),
        "pgp-first-line-alone": (b"", b"-----BEGIN PGP MESSAGE-----\r\n" + OPENED),
        "pgp-first-line-goes-on": (b"", ARMOUR.replace(b"MESSAGE-----", b"MESSAGE----- from me", 1)),
        "pgp-with-a-text-after-it": (b"", ARMOUR + OPENED),
        "pgp-with-a-text-between": (b"", ARMOUR + OPENED + ARMOUR),
        "pgp-signed-with-a-text-after-it": (b"", CLEAR_TEXT + OPENED),
        "pgp-signed-that-ends-as-encrypted": (
            b"",
            CLEAR_TEXT.replace(b"END PGP SIGNATURE", b"END PGP MESSAGE"),
        ),
        "pgp-with-blanks-and-a-text-far-behind": (b"", ARMOUR.rstrip() + b" " * 200_000 + OPENED),
        "pgp-in-an-alternative": typed(
            "multipart/alternative; boundary=b", parts(armour, _part("text/html", OPENED))
        ),
        "pgp-before-a-text": typed("multipart/mixed; boundary=b", parts(armour, TEXT)),
        "pgp-before-html": typed("multipart/mixed; boundary=b", parts(armour, _part("text/html", OPENED))),
        "pgp-before-a-message": typed(
            "multipart/mixed; boundary=b",
            parts(armour, _part("message/rfc822", b"Subject: Hello\r\n\r\n" + OPENED)),
        ),
        "application-pgp-with-a-text-after-it": typed("application/pgp", ARMOUR + OPENED),
        "pgp-in-html": typed("text/html", ARMOUR + b"<p>Please pay</p>"),
        "pgp-in-the-second-part": typed(
            "multipart/mixed; boundary=b", parts(TEXT, _part("text/plain", ARMOUR))
        ),
    }
