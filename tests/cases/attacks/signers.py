"""Forgeries by signature: attributes, digests, signers and certificates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

from asn1crypto import cms, core, tsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from forge import (
    ALICE,
    MALLORY,
    TEXT,
    Attributes,
    Structure,
    attribute,
    attributes_for,
    authority,
    clear,
    detached,
    opaque,
    opaque_mail,
    person,
    signer_info,
)
from structures import Case

OTHER = TEXT.replace(b"Friday", b"Sunday")


def _attributes(attributes: Attributes, **more: object) -> bytes:
    signer = signer_info(person(ALICE), TEXT, attributes=attributes, **more)  # type: ignore[arg-type]
    return clear(der=Structure([signer], [person(ALICE)]).der())


def attribute_cases() -> Iterator[Case]:
    """Signed attributes that are missing, doubled or contradictory (RFC 5652 5.3, 11)."""
    kind, digest, time = attributes_for(TEXT)
    other = attributes_for(OTHER)[1]
    yield (
        "no-content-type-attribute",
        "attributes",
        "the contentType attribute is missing",
        _attributes([digest, time]),
    )
    yield (
        "no-digest-attribute",
        "attributes",
        "the messageDigest attribute is missing",
        _attributes([kind, time]),
    )
    yield (
        "two-digests",
        "attributes",
        "two messageDigest attributes, one of another text",
        _attributes([kind, digest, other, time]),
    )
    yield (
        "two-digest-values",
        "attributes",
        "one messageDigest attribute with two values",
        _attributes(
            [kind, attribute("message_digest", *(hashlib.sha256(text).digest() for text in (TEXT, OTHER)))]
        ),
    )
    yield (
        "two-signing-times",
        "attributes",
        "two signing times",
        _attributes(
            [
                kind,
                digest,
                time,
                attribute(
                    "signing_time", cms.Time({"utc_time": core.UTCTime(datetime(2026, 1, 2, tzinfo=UTC))})
                ),
            ]
        ),
    )
    yield (
        "other-content-type",
        "attributes",
        "the contentType attribute speaks of a time-stamp",
        _attributes([attribute("content_type", "tst_info"), digest, time]),
    )
    yield (
        "unsigned-digest",
        "attributes",
        "a messageDigest among the unsigned attributes",
        _attributes([kind, digest, time], unsigned=[other]),
    )
    yield (
        "digest-replaced",
        "signature",
        "the messageDigest was replaced by that of another text",
        clear(OTHER, _grafted(other)),
    )
    yield (
        "text-changed",
        "digest",
        "the text was changed after it was signed",
        clear().replace(b"Friday", b"Sunday"),
    )
    yield (
        "opaque-text-changed",
        "digest",
        "the content was changed after it was signed",
        opaque_mail(opaque().replace(b"Friday", b"Sunday")),
    )
    yield (
        "header-of-part-changed",
        "digest",
        "the type of the signed part was changed",
        clear().replace(b"text/plain; charset=us-ascii", b"text/html;  charset=us-ascii"),
    )
    yield (
        "line-added",
        "digest",
        "a line was added to the signed part",
        clear().replace(b"Friday.\r\n", b"Friday.\r\nPlease pay.\r\n"),
    )
    # A signature over the attributes of another message fits these attributes as content (RFC 5652 5.4).
    stolen = cms.CMSAttributes(attributes_for(TEXT)).dump()
    bare = signer_info(person(ALICE), stolen, bare=True)
    yield (
        "attributes-as-content",
        "attributes",
        "Alice's signed attributes are sent as a signed text",
        clear(stolen, Structure([bare], [person(ALICE)]).der()),
    )
    yield (
        "opaque-attributes-as-content",
        "attributes",
        "Alice's signed attributes are sent as signed content",
        opaque_mail(Structure([bare], [person(ALICE)], stolen).der()),
    )


def _grafted(other: cms.CMSAttribute) -> bytes:
    kind, digest, time = attributes_for(TEXT)
    original = cms.CMSAttributes([kind, digest, time]).dump()
    signer = signer_info(person(ALICE), TEXT, attributes=[kind, other, time], over=original)
    return Structure([signer], [person(ALICE)]).der()


def algorithm_cases() -> Iterator[Case]:
    """Digests and signatures that are weak, substituted or broken."""
    alice = person(ALICE)
    weak = signer_info(alice, TEXT, digest="sha1")
    yield (
        "sha1",
        "weak",
        "SHA-1, for which two texts with one digest can be made",
        clear(der=Structure([weak], [alice], digests=["sha1"]).der()),
    )
    substituted = signer_info(alice, TEXT, named="sha384")
    yield (
        "digest-substituted",
        "digest",
        "another digest algorithm is named than was used",
        clear(der=Structure([substituted], [alice], digests=["sha384"]).der()),
    )
    unannounced = signer_info(alice, TEXT, digest="sha384")
    yield (
        "digest-not-announced",
        "attributes",
        "a digest that readers in one pass do not compute",
        clear(der=Structure([unannounced], [alice]).der()),
    )
    der = detached(TEXT)
    yield (
        "signature-flipped",
        "signature",
        "one bit of the signature is another",
        clear(der=der[:-1] + bytes([der[-1] ^ 1])),
    )
    future = [
        *attributes_for(TEXT)[:2],
        attribute("signing_time", cms.Time({"utc_time": core.UTCTime(datetime(2027, 11, 22, tzinfo=UTC))})),
    ]
    yield "signed-in-the-future", "future", "the signing time lies a year ahead", _attributes(future)


def signer_cases() -> Iterator[Case]:
    """Signers who are none, several, or somebody else."""
    alice, mallory = person(ALICE), person(MALLORY)
    one, two = signer_info(alice, TEXT), signer_info(mallory, TEXT)
    broken = signer_info(alice, TEXT, over=b"something else")
    yield (
        "two-signers",
        "several-signers",
        "Alice and Mallory both signed",
        clear(der=Structure([one, two], [alice, mallory]).der()),
    )
    yield (
        "alice-beside-mallory",
        "several-signers",
        "Mallory signed, and a broken signature names Alice",
        clear(der=Structure([two, broken], [alice, mallory]).der()),
    )
    yield (
        "mallory-beside-alice",
        "several-signers",
        "an untrusted signer stands beside Alice",
        clear(
            der=Structure(
                [one, signer_info(person(MALLORY, issuer="stranger"), TEXT)],
                [alice, person(MALLORY, issuer="stranger")],
            ).der()
        ),
    )
    yield "no-signers", "no-signer", "a signature of nobody", clear(der=Structure([], [alice]).der())
    yield (
        "no-certificate",
        "no-certificate",
        "the certificate is missing",
        clear(der=Structure([one], []).der()),
    )
    spoiled = detached(TEXT).replace(ALICE.encode(), ALICE.encode()[:-1] + b"\xe5")
    yield (
        "certificate-unreadable-address",
        "certificate-form",
        "octets in the certificate's address that no address has",
        clear(der=spoiled),
    )
    imposter = person(ALICE, secret="mallory's key")
    yield (
        "key-of-another",
        "signature",
        "signed with another key than that of Alice's certificate",
        clear(der=Structure([signer_info(imposter, TEXT)], [alice]).der()),
    )
    bound = attributes_for(TEXT)
    bound.append(attribute("signing_certificate_v2", _names(mallory.der)))
    yield (
        "bound-to-another",
        "certificate",
        "the signature was bound to another certificate",
        _attributes(bound),
    )
    yield (
        "signed-by-mallory",
        "address",
        "Mallory signed and writes as Alice",
        clear(der=detached(TEXT, mallory)),
    )


def _names(certificate: bytes) -> object:
    return tsp.SigningCertificateV2(
        {"certs": [tsp.ESSCertIDv2({"cert_hash": hashlib.sha256(certificate).digest()})]}
    )


def path_cases() -> Iterator[Case]:
    """Certificates that lead nowhere, or were made for something else."""
    strange = person(ALICE, issuer="stranger")
    both = [strange, authority("stranger")]
    yield (
        "stranger-of-the-same-name",
        "no-path",
        "an authority of the same name with a key of its own",
        clear(der=Structure([signer_info(strange, TEXT)], both).der()),
    )
    for name, expected, why, holder in (
        (
            "expired",
            "expired",
            "the certificate expired in June",
            person(ALICE, end=datetime(2026, 6, 1, tzinfo=UTC), serial="expired"),
        ),
        (
            "for-servers",
            "purpose",
            "the certificate was issued for web servers",
            person(ALICE, purpose=ExtendedKeyUsageOID.SERVER_AUTH, serial="server"),
        ),
        (
            "for-code",
            "purpose",
            "the certificate was issued for signing programs",
            person(ALICE, purpose=ExtendedKeyUsageOID.CODE_SIGNING, serial="code"),
        ),
        ("authority-itself", "purpose", "the authority's own certificate signs no mail", authority()),
    ):
        yield name, expected, why, clear(der=Structure([signer_info(holder, TEXT)], [holder]).der())


def cases() -> Iterator[Case]:
    """All forgeries of this file."""
    yield from attribute_cases()
    yield from algorithm_cases()
    yield from signer_cases()
    yield from path_cases()
