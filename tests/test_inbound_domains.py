"""What the inbound way says of domains: ARC, alignment, and DKIM results of a server in front."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_network

import pytest

import bank
import dkim_signer
from mailsigil.dkim.arc import ArcResult
from mailsigil.dkim.words import DkimResult, DkimWord
from mailsigil.headers import identity_fields
from mailsigil.inbound import InboundParts, alignment, inbound
from mailsigil.message.fields import named, parse_fields
from mailsigil.plan import Plan
from mailsigil.rewrite import rewritten
from mailsigil.verdict import SmimeWord, Status, Verdict

PARTS = InboundParts(
    verification=bank.verification(),
    txt=bank.no_dns,
    now=lambda: bank.NOW,
    authserv_id=bank.HOST,
    dkim_max_bytes=1_000_000,
    dkim_max_signatures=5,
    trusted_authserv_ids=frozenset({"edge.bank.example"}),
    trusted_relays=(ip_network("192.0.2.0/28"), ip_network("2001:db8::/64")),
)


def results(raw: bytes, *, client: str | None = "192.0.2.1", **more: object) -> tuple[Plan, str]:
    """The plan for a message, and our Authentication-Results in it."""
    fields, body = bank.cut(raw)
    plan = inbound(fields, body, dataclasses.replace(PARTS, **more), client=client)  # type: ignore[arg-type]
    written, _ = parse_fields(b"".join(rewritten(fields, body, plan.edits)))
    return plan, named(written, b"authentication-results")[0].unfolded.decode()


def never(name: bytes) -> bytes | None:
    raise AssertionError(f"{name!r} was asked for")


UPSTREAM = b"Authentication-Results: edge.bank.example; dkim=pass header.d=bank.example header.s=s1\r\n"
SIGNATURE = b"DKIM-Signature: v=1; a=rsa-sha256; d=bank.example; s=s1; h=from; bh=AAAA; b=AAAA\r\n"


def test_results_of_a_trusted_server_are_taken_over_without_a_look_up() -> None:
    plan, said = results(UPSTREAM + SIGNATURE + bank.signed(bank.mail()), txt=never)
    assert "dkim=pass header.d=bank.example header.s=s1" in said
    assert dict(plan.details)["aligned"] == "smime,dkim"


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(UPSTREAM.replace(b"edge.", b"evil."), id="another-server"),
        pytest.param(UPSTREAM.replace(b"edge.bank.example", bank.HOST.encode()), id="our-own-name"),
        pytest.param(b"", id="nobody"),
    ],
)
def test_results_of_others_are_not(field: bytes) -> None:
    _, said = results(field + SIGNATURE + bank.mail())
    assert "dkim=pass" not in said


@pytest.mark.parametrize("client", ["192.0.2.15", "2001:db8::7", "::ffff:192.0.2.3", None])
def test_a_trusted_server_is_known_by_its_address(client: str | None) -> None:
    assert "dkim=pass" in results(UPSTREAM + SIGNATURE + bank.mail(), client=client)[1]


@pytest.mark.parametrize("client", ["192.0.2.16", "198.51.100.1", "2001:db8:1::7", "", "unknown"])
def test_from_any_other_client_its_name_means_nothing(client: str) -> None:
    assert "dkim=pass" not in results(UPSTREAM + SIGNATURE + bank.mail(), client=client)[1]


def test_nothing_is_taken_over_unless_configured() -> None:
    _, said = results(UPSTREAM + SIGNATURE + bank.mail(), trusted_authserv_ids=frozenset())
    assert "dkim=pass" not in said


def test_a_chain_is_told_of() -> None:
    plan, said = results(
        b"ARC-Seal: i=1; cv=none; a=rsa-sha256; d=lists.example; s=s; b=AAAA\r\n" + bank.mail()
    )
    assert 'arc=fail reason="the chain has a gap"' in said
    assert any(name == "arc" and word.startswith("fail:") for name, word in plan.details)


def test_no_chain_is_not() -> None:
    assert "arc=" not in results(bank.mail())[1]


@pytest.mark.parametrize("word", [DkimWord.PASS, DkimWord.FAIL, DkimWord.TEMPERROR, DkimWord.NEUTRAL])
def test_arc_stands_last_in_the_results(word: DkimWord) -> None:
    verdict = Verdict(word=SmimeWord.NONE, status=Status.UNSIGNED)
    field, *_ = identity_fields(verdict, (), bank.HOST, arc=ArcResult(word, 1, "x.example", ""))
    assert field.unfolded.decode().endswith(f"; dkim=none; arc={word.value}")


@pytest.mark.parametrize(
    ("signers", "dkim", "author", "expected"),
    [
        ((bank.ALICE,), (DkimResult(DkimWord.PASS, "bank.example", "s"),), "bank.example", ("smime", "dkim")),
        ((bank.ALICE,), (DkimResult(DkimWord.PASS, "evil.example", "s"),), "bank.example", ("smime",)),
        ((), (DkimResult(DkimWord.FAIL, "bank.example", "s"),), "bank.example", ()),
        ((bank.ALICE,), (DkimResult(DkimWord.PASS, "evil.example", "s"),), "evil.example", ("dkim",)),
        ((), (DkimResult(DkimWord.PASS, "", ""),), "", ()),
    ],
    ids=["both", "certificate-alone", "neither", "dkim-alone", "no-author"],
)
def test_alignment(
    signers: tuple[str, ...], dkim: tuple[DkimResult, ...], author: str, expected: tuple[str, ...]
) -> None:
    verdict = Verdict(word=SmimeWord.PASS, status=Status.TRUSTED, signers=signers)
    assert alignment(verdict, dkim, author) == expected


def test_all_look_ups_share_their_time() -> None:
    times = iter(range(0, 10_000, 20))
    asked = []

    def slow(name: bytes) -> bytes | None:
        asked.append(name)
        return None

    raw = b"".join(SIGNATURE.replace(b"s=s1", b"s=s%d" % n) for n in range(5)) + dkim_signer.MESSAGE
    results(raw, txt=slow, clock=lambda: float(next(times)), dns_seconds=30.0)
    assert len(asked) == 1
