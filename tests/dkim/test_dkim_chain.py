"""Which DKIM signatures on a message are our own."""

from __future__ import annotations

import pytest

from mailsigil.dkim.chain import own_signatures
from mailsigil.message.fields import Field

OWN = frozenset({"bank.example", "Sub.Other.Example", "xn--bnk-qla.example"})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([b" v=1; d=bank.example; s=x"], (1,), id="ours"),
        pytest.param([b" v=1; d=BANK.example.; s=x"], (1,), id="letter case and final dot"),
        pytest.param([b"d=bank.example"], (1,), id="first tag"),
        pytest.param([b" v=1;\r\n\td =\r\n bank.example;"], (1,), id="folds around"),
        pytest.param([b" v=1; d=mail.bank.example"], (1,), id="below ours"),
        pytest.param([b" v=1; d=example"], (), id="above ours"),
        pytest.param([b" v=1; d=other.example"], (), id="above one of ours"),
        pytest.param([b" v=1; d=sub.other.example"], (1,), id="ours was written in capitals"),
        pytest.param([b" v=1; d=notbank.example"], (), id="a tail of letters"),
        pytest.param([b" v=1; i=@bank.example; d=evil.example"], (), id="only the identity"),
        pytest.param([b" v=1; id=bank.example; d=evil.example"], (), id="a tag that ends in d"),
        pytest.param(
            [b" v=1; d=evil.example", b" d=bank.example", b"", b" d=bank.example"], (2, 4), id="several"
        ),
        pytest.param([b" garbage; d=bank.example; d=x"], (1,), id="unreadable but ours"),
        pytest.param([b" v=1; d=\xff\xfe"], (), id="no text"),
        pytest.param([b" v=1; d=" + "bänk.example".encode()], (1,), id="U-labels"),
    ],
)
def test_own_signatures(values: list[bytes], expected: tuple[int, ...]) -> None:
    fields = [Field(b"From", b" alice@bank.example"), Field(b"X-DKIM-Signature", b" d=bank.example")]
    fields += [Field(b"DKIM-SIGNATURE" if n % 2 else b"DKIM-Signature", v) for n, v in enumerate(values)]
    assert own_signatures(fields, OWN) == expected


def test_no_domains_own_nothing() -> None:
    assert own_signatures([Field(b"DKIM-Signature", b" d=; d=bank.example")], frozenset({""})) == ()
