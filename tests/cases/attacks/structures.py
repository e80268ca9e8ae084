"""Forgeries by MIME structure: text beside a signature, and what readers divide differently."""

from __future__ import annotations

from collections.abc import Iterator

from forge import (
    CLEAR_TYPE,
    EOL,
    MALLORY,
    OPAQUE_TYPE,
    TEXT,
    clear,
    clear_body,
    detached,
    encoded,
    header,
    opaque,
    person,
)

Case = tuple[str, str, str, bytes]
"""Name, expected reason, why it is forged, and the mail."""

PAY = b"Content-Type: text/plain\r\n\r\nPlease pay to another account.\r\n"
HTML = b"Content-Type: text/html\r\n\r\n<p>Please pay to another account.</p>\r\n"


def _around(kind: str, *parts: bytes) -> bytes:
    body = b"".join(b"--outer\r\n%b\r\n" % part for part in parts)
    return (
        header()
        + b"Content-Type: multipart/%b; boundary=outer\r\n\r\n" % kind.encode()
        + body
        + b"--outer--\r\n"
    )


def _signed_part() -> bytes:
    return CLEAR_TYPE + EOL + clear_body()


def wrappers() -> Iterator[Case]:
    """A genuine signature inside of something that nobody signed."""
    yield (
        "list-footer",
        "partial",
        "a mailing list put its footer beside the signed message",
        _around("mixed", _signed_part(), PAY),
    )
    yield (
        "text-above",
        "partial",
        "text stands above the signed message",
        _around("mixed", PAY, _signed_part()),
    )
    yield (
        "wrapped-alone",
        "partial",
        "the signed message is one part of a multipart/mixed",
        _around("mixed", _signed_part()),
    )
    yield (
        "alternative",
        "partial",
        "a client shows the unsigned alternative",
        _around("alternative", _signed_part(), HTML),
    )
    yield (
        "related",
        "partial",
        "the signed part is only related to what is shown",
        _around("related", HTML, _signed_part()),
    )
    yield (
        "opaque-attached",
        "partial",
        "an opaque signature is attached to an unsigned text",
        _around("mixed", PAY, OPAQUE_TYPE + EOL + encoded(opaque())),
    )
    yield (
        "deep",
        "partial",
        "the signature lies two multiparts deep",
        _around(
            "mixed",
            PAY,
            b"Content-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n" + _signed_part() + b"--in--\r\n",
        ),
    )
    forwarded = b"Content-Type: message/rfc822\r\n\r\n" + clear()
    yield (
        "forwarded",
        "unsigned",
        "somebody else's signed message is attached to an unsigned one",
        _around("mixed", PAY, forwarded),
    )
    yield (
        "digest-of-signed",
        "unsigned",
        "a digest of signed messages is not signed itself",
        _around("digest", EOL + clear()),
    )
    yield (
        "only-forwarded",
        "unsigned",
        "the message is nothing but a signed message inside",
        header() + forwarded,
    )
    yield (
        "inline-pkcs7",
        "unsigned",
        "a signature in the text is no S/MIME",
        header() + b"\r\n-----BEGIN PKCS7-----\r\n" + encoded(opaque()) + b"-----END PKCS7-----\r\n",
    )
    yield (
        "nested-inner",
        "address",
        "Mallory signed around Alice's signed message and writes as Alice",
        clear(_signed_part_nested(), detached(_signed_part_nested(), person(MALLORY)), kind=CLEAR_TYPE),
    )


def _signed_part_nested() -> bytes:
    return CLEAR_TYPE.replace(b"=b1", b"=b2") + EOL + clear_body().replace(b"--b1", b"--b2")


def divisions() -> Iterator[Case]:
    """Boundaries that not all readers see in the same places."""
    third = b"--b1\r\n" + PAY + EOL
    yield "third-part", "structure", "a third part stands in the multipart/signed", clear(middle=third)
    yield (
        "one-part",
        "structure",
        "the signature part is missing",
        header() + CLEAR_TYPE + b"\r\n--b1\r\n" + TEXT + b"\r\n--b1--\r\n",
    )
    yield (
        "epilogue",
        "trailing",
        "text stands behind the closing boundary",
        clear(after=b"Please pay to another account.\r\n"),
    )
    yield (
        "epilogue-part",
        "trailing",
        "a part stands behind the closing boundary",
        clear(after=b"--b1\r\n" + PAY + b"--b1--\r\n"),
    )
    yield (
        "never-closed",
        "structure",
        "the closing boundary is missing",
        clear().replace(b"\r\n--b1--\r\n", EOL),
    )
    yield (
        "prefix-boundary",
        "structure",
        "readers that compare only the beginning of a line see another first part",
        clear(before=b"--b1x\r\n" + PAY + b"--b1x--\r\n"),
    )
    yield (
        "bare-cr-boundary",
        "structure",
        "readers that take a bare CR for a line end see another first part",
        clear(before=b"text\r--b1\r" + PAY.replace(EOL, b"\r")),
    )
    yield (
        "indented-boundary",
        "structure",
        "readers that skip white space see another first part",
        clear(before=b" --b1\r\n" + PAY),
    )
    yield (
        "two-boundaries",
        "structure",
        "two boundary lines in a row are an empty part to some",
        clear().replace(b"--b1\r\n", b"--b1\r\n--b1\r\n", 1),
    )
    yield (
        "padded-boundary",
        "structure",
        "a boundary line with a page of white space",
        clear().replace(b"--b1\r\n", b"--b1" + b" " * 200 + EOL, 1),
    )
    yield (
        "empty-signed",
        "partial",
        "nothing is signed, and the text stands in the preamble",
        clear(b"Content-Type: text/plain\r\n\r\n\r\n", before=b"Please pay to another account.\r\n"),
    )
    yield (
        "long-preamble",
        "structure",
        "a whole letter stands in the preamble",
        clear(before=b"Please pay to another account.\r\n" * 40),
    )
    yield (
        "nul-preamble",
        "structure",
        "readers that stop at NUL see only the preamble",
        clear(before=b"Please pay.\0\r\n"),
    )
    yield (
        "no-mime-version",
        "structure",
        "without MIME-Version some show the source, preamble first",
        clear(head=header().replace(b"MIME-Version: 1.0\r\n", b""), before=b"Please pay.\r\n"),
    )
    yield (
        "uuencode-preamble",
        "structure",
        "a uuencoded attachment in the preamble",
        clear(
            head=header().replace(b"MIME-Version: 1.0\r\n", b""),
            before=b"begin 644 pay.html\r\n#86)C\r\n`\r\nend\r\n",
        ),
    )
    yield (
        "same-boundary-inside",
        "structure",
        "the signed part uses the boundary of the multipart around it",
        clear(b"Content-Type: multipart/mixed; boundary=b1\r\n\r\n--b1\r\n" + PAY + b"--b1--\r\n"),
    )


def cases() -> Iterator[Case]:
    """All forgeries of this file."""
    yield from wrappers()
    yield from divisions()
