"""DKIM results of a trusted server in front are taken over; nobody else's are."""

from __future__ import annotations

import pytest

from mailsigil.dkim.resolver import DnsTrouble, within
from mailsigil.dkim.upstream import upstream_results
from mailsigil.dkim.words import DkimResult, DkimWord
from mailsigil.message.fields import Field

TRUSTED = frozenset({"edge.bank.example"})


def read(*values: str, most: int = 5) -> tuple[DkimResult, ...] | None:
    fields = [Field(b"Authentication-Results", f" {value}".encode()) for value in values]
    return upstream_results(fields, TRUSTED, most=most)


PASS = DkimResult(DkimWord.PASS, "bank.example", "s1")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("edge.bank.example; dkim=pass header.d=bank.example header.s=s1", (PASS,)),
        (
            "edge.bank.example 1; spf=pass smtp.mfrom=x.example; dkim=pass header.d=bank.example header.s=s1",
            (PASS,),
        ),
        (
            '"Edge.Bank.Example" (we; us); dkim/1=pass (ok; dkim=fail) header.d="bank.example" header.s=s1',
            (PASS,),
        ),
        (
            "edge.bank.example; dkim=pass header.i=@bank.example",
            (DkimResult(DkimWord.PASS, "bank.example", ""),),
        ),
        ("edge.bank.example;\r\n dkim=pass header.d=BANK.example\r\n header.s=s1", (PASS,)),
        ("edge.bank.example; dkim=none", ()),
        (
            'edge.bank.example; dkim=fail reason="dkim=pass; header.d=x.example" header.d=bank.example',
            (DkimResult(DkimWord.FAIL, "bank.example", "", "a trusted server says so"),),
        ),
    ],
    ids=[
        "plain",
        "version-and-spf",
        "comments-and-quotes",
        "identity-only",
        "folded",
        "unsigned",
        "bait-in-reason",
    ],
)
def test_what_a_trusted_server_says_is_taken_over(value: str, expected: tuple[DkimResult, ...]) -> None:
    assert read(value) == expected


RESULTS = Field(b"Authentication-Results", b" edge.bank.example; dkim=pass header.d=bank.example header.s=s1")


@pytest.mark.parametrize(
    ("above", "counts"),
    [
        ((), True),
        (("Received", "X-Virus-Scanned", "DKIM-Signature", "ARC-Seal", "Received-SPF"), True),
        (("Return-Path", "Received", "DKIM-Filter"), True),
        (("Received", "From"), False),
        (("Subject",), False),
        (("Received", "Received", "Date", "Received"), False),
        (("Verified-Identity",), False),
    ],
    ids=["top", "trace", "filters", "below-from", "below-subject", "below-date", "below-ours"],
)
def test_it_counts_only_among_what_servers_write(above: tuple[str, ...], counts: bool) -> None:
    fields = [*(Field(name.encode(), b" x") for name in above), RESULTS, Field(b"From", b" a@bank.example")]
    assert upstream_results(fields, TRUSTED, most=5) == ((PASS,) if counts else None)


@pytest.mark.parametrize(
    "value",
    [
        "other.example; dkim=pass header.d=bank.example",
        "edge.bank.example.evil.example; dkim=pass header.d=bank.example",
        "edge.bank.example",
        "edge.bank.example; spf=pass",
        "edge.bank.example; xdkim=pass header.d=bank.example",
        "edge.bank.example; dkim=passed header.d=bank.example",
        "(edge.bank.example; dkim=pass header.d=bank.example",
        '"edge.bank.example; dkim=pass header.d=bank.example',
        "edge.bank.example dkim=pass; x=y",
        "other.example; x=y (edge.bank.example); edge.bank.example; dkim=pass",
        "edge.bank.exämple; dkim=pass header.d=bank.example",
        "",
    ],
)
def test_anything_else_is_not(value: str) -> None:
    assert read(value) is None


def test_the_topmost_field_of_the_server_counts() -> None:
    below = "edge.bank.example; dkim=pass header.d=ceo.example"
    assert read("edge.bank.example; dkim=none", below) == ()
    assert read("edge.bank.example; spf=none", below) is None
    assert read("other.example; dkim=pass header.d=x.example", below) == (
        DkimResult(DkimWord.PASS, "ceo.example", ""),
    )


def test_bounds() -> None:
    many = "; ".join(["dkim=pass header.d=bank.example header.s=s1"] * 50)
    assert read(f"edge.bank.example; {many}") == (PASS,) * 5
    assert read("edge.bank.example; dkim=pass header.d=bank.example" + " " * 20000) is None
    assert read("(" * 16000) is None


def test_all_look_ups_of_a_message_share_their_time() -> None:
    times = iter([0.0, 1.0, 16.0])
    txt = within(lambda name: b"record", 15.0, lambda: next(times))
    assert txt(b"one.") == b"record"
    with pytest.raises(DnsTrouble):
        txt(b"two.")
