"""What a signature carries about revocation, written by another library (RFC 5652 10.2.1, RFC 5940)."""

from __future__ import annotations

import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import core

from mailsigil.cms.ber import BytesSource, CmsLimitError
from mailsigil.cms.parse import CmsLimits, parse_signed_data

LIST = core.Sequence.load(bytes.fromhex("3003020101")).dump()
RESPONSE = bytes.fromhex("30030a0103")
OCSP, SCVP = "1.3.6.1.5.5.7.16.2", "1.3.6.1.5.5.7.16.4"


def _other(oid: str, info: bytes) -> bytes:
    content = core.ObjectIdentifier(oid).dump() + info
    return b"\xa1" + bytes([len(content)]) + content


def _signed(*choices: bytes) -> BytesSource:
    """SignedData without signers; ``choices`` are its revocation infos."""
    data = asn1_cms.SignedData(
        {
            "version": "v5",
            "digest_algorithms": [],
            "encap_content_info": {"content_type": "data"},
            "signer_infos": [],
        }
    ).dump()
    inner = data[2:-2] + b"\xa1" + bytes([sum(map(len, choices))]) + b"".join(choices) + data[-2:]
    signed = b"\x30" + bytes([len(inner)]) + inner
    whole = core.ObjectIdentifier("1.2.840.113549.1.7.2").dump() + b"\xa0" + bytes([len(signed)]) + signed
    return BytesSource(b"\x30" + bytes([len(whole)]) + whole)


def test_lists_and_responses_are_told_apart() -> None:
    found = parse_signed_data(_signed(LIST, _other(OCSP, RESPONSE), LIST))
    assert found.crls == (LIST, LIST)
    assert found.ocsp_responses == (RESPONSE,)


@pytest.mark.parametrize(
    "other",
    [
        _other(SCVP, RESPONSE),
        _other(OCSP, b""),
        _other(OCSP, b"\x02\x01\x01"),
        b"\xa1\x00",
        b"\xa2\x02\x05\x00",
    ],
    ids=["another kind", "nothing in it", "no sequence", "empty", "another choice"],
)
def test_what_is_not_known_is_left_out(other: bytes) -> None:
    found = parse_signed_data(_signed(other, LIST))
    assert (found.crls, found.ocsp_responses) == ((LIST,), ())


def test_all_kinds_count_against_the_bound() -> None:
    with pytest.raises(CmsLimitError):
        parse_signed_data(_signed(LIST, _other(SCVP, RESPONSE), LIST), limits=CmsLimits(crls=2))
