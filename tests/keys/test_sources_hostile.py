"""Answers that somebody made to break the reader: whatever they are, the error is one of ours."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.employees import ALICE, ISSUING, NOW, ROOT, employee
from mailsigil.keys.answers import (
    Question,
    checked_chain,
    read_certificates,
    read_pkcs12,
    read_private_key,
)
from mailsigil.keys.errors import SourceAnswer, SourceError
from mailsigil.keys.keyring import StateFolder
from mailsigil.keys.sources import cmp_asn1
from mailsigil.keys.sources.cmp import CmpAuthority
from mailsigil.keys.sources.cmp_messages import Transaction
from mailsigil.keys.sources.cmp_waiting import WaitingRequests
from mailsigil.keys.sources.http import HttpClient, TlsFiles

WHO = employee()
BAG = pkcs7.serialize_certificates([WHO.certificate, ISSUING, ROOT], Encoding.DER)
ANSWER = cmp_asn1.Message(
    {
        "header": {
            "pvno": 2,
            "sender": cmp_asn1.x509.GeneralName(name="rfc822_name", value=ALICE),
            "recipient": cmp_asn1.x509.GeneralName(name="rfc822_name", value=ALICE),
            "transaction_id": b"0123456789abcdef",
            "recip_nonce": b"0123456789abcdef",
        },
        "body": cmp_asn1.Body(
            name="cp",
            value={
                "response": [
                    {
                        "cert_req_id": 0,
                        "status": {"status": 0},
                        "pair": {
                            "cert": cmp_asn1.CertOrEncCert(
                                name="certificate",
                                value=cmp_asn1.x509.Certificate.load(
                                    WHO.certificate.public_bytes(Encoding.DER)
                                ),
                            )
                        },
                    }
                ]
            },
        ),
    }
).dump()


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """A valid answer with some octets exchanged, cut out or doubled."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        data[start:end] = draw(st.binary(max_size=40))
    return bytes(data)


def _try(body: bytes) -> None:
    try:
        found = read_certificates("svc", body)
        checked_chain(Question(source="svc", address=ALICE, now=NOW), found)
    except SourceAnswer:
        return


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=400), damaged(BAG), damaged(WHO.chain_pem())))
def test_certificates(body: bytes) -> None:
    _try(body)
    _try(base64.encodebytes(body))


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=300), damaged(WHO.key_pem())))
def test_private_keys(body: bytes) -> None:
    for read in (read_private_key, lambda source, data: read_pkcs12(source, data, passphrase=None)):
        try:
            read("svc", body)
        except SourceAnswer:
            continue


def client() -> CmpAuthority:
    http = HttpClient("cmp", "http://127.0.0.1:9/", tls=TlsFiles(), timeout=1)
    return CmpAuthority(
        http,
        protector=pytest.fail,
        secret=None,
        trusted=lambda: [ROOT],
        waiting=WaitingRequests(StateFolder("cmp", Path("/nonexistent")), now=lambda: NOW),
        now=lambda: NOW,
    )


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=300), damaged(ANSWER), st.just(ANSWER)))
def test_cmp_messages(body: bytes) -> None:
    transaction = Transaction()
    transaction.identifier = transaction.nonce = b"0123456789abcdef"
    with pytest.raises(SourceError):
        client()._understood(transaction, body)
