"""Signed mail with octets changed anywhere, and octets that are no mail: no exception, no wrong identity.

The rule for a changed mail: it keeps its identity only if what is signed is the same octets, and if the
fields that name people are what they were. Changes that nobody signed and nobody is misled by are allowed:
other header fields, the preamble, empty lines at the end, the parts of the CMS structure that are not
signed.
"""

from __future__ import annotations

import base64
import io
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bank
from mailsigil.message.fields import Field, named
from mailsigil.message.mime import parse_mime
from mailsigil.message.reader import read_message
from mailsigil.message.spool import Spool
from mailsigil.signature import find_signature
from mailsigil.verdict import SmimeWord, Status, Verdict
from mailsigil.verification import verify
from test_corpora_mail import judged

pytestmark = pytest.mark.integration  # takes seconds

FORMS = ("clear", "opaque")


@cache
def original(form: str) -> bytes:
    return bank.signed(bank.mail(more=b"MIME-Version: 1.0\r\nSender: Bob <bob@bank.example>\r\n"), form=form)


def signed_octets(raw: bytes) -> bytes:
    """The content that the signature of a mail stands over."""
    message = read_message(io.BytesIO(raw))
    parts = bank.verification()
    with Spool() as store:
        root = parse_mime(message.fields, message.body)
        return b"".join(find_signature(message.fields, message.body, root, store, parts.cms_limits).content())


def people(raw: bytes) -> list[bytes]:
    """The texts of From, letter case apart; ours name nobody else."""
    fields = read_message(io.BytesIO(raw)).fields
    return [b" ".join(field.unfolded.split()) for field in named(fields, b"from")]


def consistent(verdict: Verdict) -> None:
    """An identity stands only beside a pass, and everything else has its reason."""
    assert (verdict.identity is not None) == (verdict.word is SmimeWord.PASS)
    assert (verdict.status is Status.TRUSTED) == (verdict.identity is not None)
    assert bool(verdict.reason.token) == (verdict.identity is None)


def hold(raw: bytes, changed: bytes) -> None:
    verdict = judged(changed)
    consistent(verdict)
    if verdict.identity is not None:
        assert signed_octets(changed) == signed_octets(raw)
        assert verdict.identity.address.lower() == bank.ALICE
        for before, after in zip(people(raw), people(changed), strict=True):
            address = before[before.index(b"<") :].lower()
            assert address in after.lower() or address.strip(b"<>") in after.lower()


place = st.floats(0, 1, exclude_max=True)
piece = st.one_of(
    st.binary(min_size=0, max_size=4),
    st.sampled_from(
        [
            *(
                b"\r",
                b"\n",
                b"\0",
                b"\r\n",
                b"\r\n\r\n",
                b"\n\n",
                b"--b0undary",
                b"--b0undary--",
                b'"',
                b";",
                b"=?",
            ),
            *(b"From: ceo@bank.example\r\n", b"\r\nContent-Type: text/html\r\n", b" ", b"\t", b"(", b"\\"),
            *(
                b"Sender: a@evil.example\r\n",
                b"Content-Type: text/html",
                b"\x80",
                b"@",
                b",",
                b"<ceo@x.example>",
            ),
        ]
    ),
)
edit = st.tuples(place, st.integers(0, 40), piece)


@pytest.mark.integration
@given(form=st.sampled_from(FORMS), edits=st.lists(edit, min_size=1, max_size=3))
@settings(max_examples=400, deadline=None)
def test_changed_octets(form: str, edits: list[tuple[float, int, bytes]]) -> None:
    raw = changed = original(form)
    for where, removed, added in edits:
        at = int(where * len(changed))
        changed = changed[:at] + added + changed[at + removed :]
    hold(raw, changed)


@given(form=st.sampled_from(FORMS), order=st.randoms(use_true_random=False), drop=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_lines_out_of_order(form: str, order: object, drop: int) -> None:
    raw = original(form)
    lines = raw.split(b"\r\n")
    for _ in range(drop + 1):
        first, second = (order.randrange(len(lines)) for _ in range(2))  # type: ignore[attr-defined]
        lines[first], lines[second] = lines[second], lines[first]
    del lines[order.randrange(len(lines))]  # type: ignore[attr-defined]
    hold(raw, b"\r\n".join(lines))


@given(form=st.sampled_from(FORMS), where=place)
@settings(max_examples=100, deadline=None)
def test_cut_off(form: str, where: float) -> None:
    raw = original(form)
    hold(raw, raw[: int(where * len(raw))])


names = st.sampled_from(
    [b"From", b"Sender", b"Reply-To", b"Content-Type", b"Content-Transfer-Encoding", b"MIME-Version", b"X"]
)
values = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b' multipart/signed; protocol="application/pkcs7-signature"; boundary=b',
            b" application/pkcs7-mime; smime-type=signed-data",
            b" base64",
            b" message/rfc822",
            b" Alice <alice@bank.example>",
        ]
    ),
)


@pytest.mark.integration
@given(
    fields=st.lists(st.builds(Field, names, values), max_size=8),
    body=st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([b"--b", b"--b--", b""])), max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_octets_that_are_no_mail(fields: list[Field], body: list[bytes]) -> None:
    with Spool() as spool:
        spool.write(b"\r\n".join(body))
        verdict = verify(fields, spool, bank.verification(), at=bank.NOW)
    consistent(verdict)
    assert verdict.identity is None


@given(raw=st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_any_octets_the_inbound_way(raw: bytes) -> None:
    done = bank.receive(raw.replace(b"\r", b"").replace(b"\n", b"\r\n"))
    assert done.value("Verified-Identity").startswith("none; ")


@given(form=st.sampled_from(FORMS), edits=st.lists(edit, min_size=1, max_size=2))
@settings(max_examples=150, deadline=None)
def test_changed_octets_the_inbound_way(form: str, edits: list[tuple[float, int, bytes]]) -> None:
    changed = original(form)
    for where, removed, added in edits:
        at = int(where * len(changed))
        changed = changed[:at] + added + changed[at + removed :]
    done = bank.receive(changed)
    identity = done.value("Verified-Identity")
    assert identity.startswith(("none; ", "V4; "))
    assert ("smime=pass" in done.value("Authentication-Results")) == identity.startswith("V4; ")


@cache
def certificate_of_alice() -> bytes:
    """The signer's certificate as it stands in the signature."""
    message = read_message(io.BytesIO(original("opaque")))
    with Spool() as store:
        root = parse_mime(message.fields, message.body)
        limits = bank.verification().cms_limits
        return find_signature(message.fields, message.body, root, store, limits).data.certificates[0]


@given(edits=st.lists(st.tuples(place, st.integers(1, 255)), min_size=1, max_size=2))
@settings(max_examples=300, deadline=None)
def test_changed_octets_of_the_certificate(edits: list[tuple[float, int]]) -> None:
    """No signature of the message covers it: whatever stands in it, there is a verdict and no identity."""
    whole = certificate_of_alice()
    changed = bytearray(whole)
    for where, bits in edits:
        changed[int(where * len(whole))] ^= bits
    raw = original("opaque")
    head, _, body = raw.partition(b"\r\n\r\n")
    der = base64.b64decode(body).replace(whole, bytes(changed))
    verdict = judged(head + b"\r\n\r\n" + base64.encodebytes(der).replace(b"\n", b"\r\n"))
    consistent(verdict)
    assert verdict.identity is None or bytes(changed) == whole
