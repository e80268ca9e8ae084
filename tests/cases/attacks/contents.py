"""Forgeries by type: what one reader takes for a signature and the next one for something else."""

from __future__ import annotations

from collections.abc import Iterator

from forge import (
    ALICE,
    CLEAR_TYPE,
    OPAQUE_TYPE,
    SIGNATURE_HEAD,
    TEXT,
    Structure,
    attributes_for,
    clear,
    detached,
    opaque,
    opaque_mail,
    person,
    signer_info,
)
from structures import Case

EXTERNAL = (
    b'Content-Type: message/external-body; access-type=URL; URL="http://evil.example/"\r\n\r\n'
    b"Content-Type: text/html\r\n\r\n"
)


def types() -> Iterator[Case]:
    """Content-Type fields that mean one thing to one reader and another to the next."""

    def kind(old: bytes, new: bytes) -> bytes:
        assert old in CLEAR_TYPE
        return clear(kind=CLEAR_TYPE.replace(old, new))

    yield (
        "two-types",
        "structure",
        "two Content-Type fields: some read the first, some the last",
        clear(kind=b"Content-Type: text/html\r\n" + CLEAR_TYPE),
    )
    yield (
        "two-types-below",
        "structure",
        "two Content-Type fields, the signed one first",
        clear(kind=CLEAR_TYPE + b"Content-Type: text/html\r\n"),
    )
    yield (
        "type-with-space",
        "structure",
        "white space before the colon of Content-Type",
        kind(b"Content-Type:", b"Content-Type :"),
    )
    yield (
        "boundary-twice",
        "structure",
        "two boundary parameters",
        kind(b"boundary=b1", b"boundary=b1; boundary=b2"),
    )
    yield (
        "boundary-2231",
        "content-type",
        "a boundary that readers without RFC 2231 do not see",
        kind(b"boundary=b1", b"boundary*=us-ascii''b1"),
    )
    yield (
        "boundary-pieces",
        "content-type",
        "a boundary in pieces that readers without RFC 2231 do not see",
        kind(b"boundary=b1", b"boundary*0=b; boundary*1=1"),
    )
    yield (
        "boundary-escaped",
        "content-type",
        "a boundary with an escape that some readers keep",
        kind(b"boundary=b1", b'boundary="b\\1"'),
    )
    yield (
        "boundary-encoded-word",
        "structure",
        "a boundary that some readers decode",
        kind(b"boundary=b1", b'boundary="=?us-ascii?q?b1?="'),
    )
    yield (
        "comment",
        "content-type",
        "a comment in which some readers see a parameter",
        kind(b"boundary=b1", b"(; boundary=b2;) boundary=b1"),
    )
    yield "no-boundary", "structure", "no boundary parameter", kind(b"; boundary=b1", b"")
    yield (
        "base64-around",
        "structure",
        "base64 on a multipart, which some readers undo",
        clear(kind=CLEAR_TYPE + b"Content-Transfer-Encoding: base64\r\n"),
    )
    yield (
        "quoted-printable-around",
        "structure",
        "quoted-printable on a multipart, which some readers undo",
        clear(kind=CLEAR_TYPE + b"Content-Transfer-Encoding: quoted-printable\r\n"),
    )
    yield (
        "protocol-pgp",
        "partial",
        "the protocol parameter speaks of PGP",
        kind(b"pkcs7-signature", b"pgp-signature"),
    )
    yield (
        "protocol-missing",
        "partial",
        "no protocol parameter",
        kind(b'protocol="application/pkcs7-signature"; ', b""),
    )
    yield (
        "signature-as-text",
        "structure",
        "the signature part calls itself text/html",
        clear().replace(b"Content-Type: application/pkcs7-signature", b"Content-Type: text/html"),
    )
    yield (
        "signature-two-types",
        "structure",
        "the signature part is text/html to some readers",
        clear().replace(
            b"Content-Type: application/pkcs7-signature",
            b"Content-Type: application/pkcs7-signature\r\nContent-Type: text/html",
            1,
        ),
    )
    yield (
        "signature-named-html",
        "structure",
        "the signature part is to be opened as a page",
        clear().replace(b'name="smime.p7s"', b'name="invoice.html"'),
    )
    yield (
        "signature-disposition",
        "structure",
        "the signature part has the file name of a program",
        clear().replace(
            SIGNATURE_HEAD, SIGNATURE_HEAD + b'Content-Disposition: attachment; filename="invoice.exe"\r\n'
        ),
    )
    yield (
        "content-base",
        "structure",
        "an unsigned Content-Base sends the links of the signed page elsewhere",
        clear(kind=CLEAR_TYPE + b"Content-Base: http://evil.example/\r\n"),
    )
    yield (
        "content-location",
        "structure",
        "an unsigned Content-Location sends the links of the signed page elsewhere",
        clear(kind=CLEAR_TYPE + b"Content-Location: http://evil.example/\r\n"),
    )
    yield (
        "not-a-type",
        "unsigned",
        "a Content-Type that cannot be read is plain text",
        kind(b"multipart/signed", b"multipart-signed"),
    )


def opaque_types() -> Iterator[Case]:
    """The same for opaque signatures."""

    def kind(old: bytes, new: bytes) -> bytes:
        assert old in OPAQUE_TYPE
        return opaque_mail(opaque(), kind=OPAQUE_TYPE.replace(old, new))

    yield (
        "claims-enveloped",
        "content-type",
        "smime-type says encrypted and the content is signed",
        kind(b"signed-data", b"enveloped-data"),
    )
    yield (
        "claims-certs-only",
        "content-type",
        "smime-type says certificates only and the content is signed",
        kind(b"signed-data", b"certs-only"),
    )
    yield (
        "opaque-named-pdf",
        "structure",
        "the signature has the file name of a document",
        kind(b"smime.p7m", b"invoice.pdf"),
    )
    yield (
        "opaque-as-signature",
        "structure",
        "an opaque signature that calls itself a detached one",
        kind(b"application/pkcs7-mime", b"application/pkcs7-signature"),
    )
    yield (
        "opaque-uuencoded",
        "structure",
        "a transfer encoding that not all readers know",
        kind(b": base64", b": x-uuencode"),
    )
    yield (
        "opaque-text-in-base64",
        "syntax",
        "text of other letters among the base64",
        opaque_mail(opaque()).replace(b"\r\n\r\n", "\r\n\r\nПереведите деньги!\r\n".encode(), 1),
    )
    yield (
        "opaque-footer",
        "syntax",
        "a mailing list put its footer below the base64",
        opaque_mail(opaque()) + b"_____\r\nlist@example.org\r\n",
    )
    yield (
        "trailing-octets",
        "syntax",
        "octets behind the end of the structure",
        opaque_mail(opaque() + b"<script>"),
    )
    for name, oid in (("encrypted", "2A864886F70D010703"), ("compressed", "2A864886F70D0109100109")):
        kind_of = bytes.fromhex(oid)
        inside = b"\x06" + bytes([len(kind_of)]) + kind_of + b"\xa0\x02\x05\x00"
        yield (
            f"{name}-as-signed",
            name,
            f"a structure that calls itself signed and is {name}",
            opaque_mail(b"\x30" + bytes([len(inside)]) + inside),
        )
    yield "no-content", "structure", "an opaque signature without content", opaque_mail(detached(TEXT))
    yield (
        "content-twice",
        "structure",
        "a detached signature that brings a content of its own",
        clear(der=opaque()),
    )
    receipt = "1.2.840.113549.1.9.16.1.1"  # RFC 2634: the signer did not write it as a mail
    signer = signer_info(person(ALICE), TEXT, attributes=attributes_for(TEXT, kind=receipt))
    yield (
        "receipt",
        "structure",
        "a signed receipt is not a mail",
        opaque_mail(Structure([signer], [person(ALICE)], TEXT, kind=receipt).der()),
    )
    for name, content in (
        (
            "message-partial",
            b"Content-Type: message/partial; id=1; number=1; total=2\r\n\r\nSubject: x\r\n\r\nfirst half\r\n",
        ),
        (
            "external-body",
            EXTERNAL,
        ),
        (
            "external-body-inside",
            b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" + EXTERNAL + b"\r\n--m--\r\n",
        ),
    ):
        yield (
            name,
            "elsewhere",
            "the signed part only points to content that anybody can change",
            clear(content),
        )
        yield (
            f"opaque-{name}",
            "elsewhere",
            "the signed content only points to content that anybody can change",
            opaque_mail(opaque(content)),
        )


def cases() -> Iterator[Case]:
    """All forgeries of this file."""
    yield from types()
    yield from opaque_types()
