"""Certificates of a whole domain (RFC 3183): who may sign with them, and what a reader sees of them."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import bank
from bank import ALICE, BOB, NOW, Bank, judge, mail, outcome, send, verification
from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.key_files import keys_from, read_key_file
from mailsigil.keys.local import FixedKeys
from mailsigil.keys.profile import Subject
from mailsigil.keys.protocol import Credential
from mailsigil.keys.routes import DomainRoute
from mailsigil.pki.policies import Level
from mailsigil.plan import Event, Outcome
from mailsigil.verdict import Identity, Reason, SmimeWord, Status

MAILBOX = "domain-signing-authority"
DOMAIN = f"{MAILBOX}@bank.example"
SUBJECTS = {
    "V1": Subject(level=Level.V1, address=DOMAIN),
    "V3": Subject(level=Level.V3, address=DOMAIN, organisation="Example Bank"),
    "V4": Subject(
        level=Level.V4, address=DOMAIN, given_name="Mallory", surname="Clerk", organisation="Example Bank"
    ),
}


@cache
def house(*levels: str) -> Bank:
    """An authority with a certificate of the domain, and one of Bob's own."""
    return bank.found_bank((*(SUBJECTS[level] for level in levels), Subject(level=Level.V1, address=BOB)))


class Agent:
    """The key agent with one source, which lets the domain's certificate sign, behind no socket."""

    def __init__(self, issued: Bank, folder: Path) -> None:
        found = []
        for number, pem in enumerate(issued.pem.values()):
            path = folder / f"{number}.pem"
            path.write_bytes(pem)
            found += keys_from([read_key_file(path)], passphrase=None)[0]
        route = DomainRoute(
            FixedKeys(found), name="corporate", domains=["bank.example"], domain_mailbox=MAILBOX
        )
        self._agent = KeyAgent([route], now=lambda: NOW)

    def find(self, address: str, *, source: str = "", without: str = "") -> tuple[Credential, ...]:
        return self._agent.find(address, source=source, without=without)

    def sign(self, *, key_id: str, address: str, scheme: str, data: bytes) -> bytes:
        return self._agent.sign(key_id=key_id, address=address, scheme=scheme, data=data, peer_uid=0)


POLICY = """
[[domain]]
name = "bank.example"
signing = "required"
domain_signature = {allowed}
{more}

[[person]]
address = "alice@bank.example"
logins = ["alice"]

[[person]]
address = "bob@bank.example"
logins = ["bob"]
domain_signature = false
"""
ORGANISATION = '\n[[organisation]]\nname = "Bank"\ndomains = ["bank.example"]\nvalidated_until = {until}\n'


def policy(*, allowed: bool = True, more: str = "", until: str = "") -> str:
    text = POLICY.format(allowed="true" if allowed else "false", more=more)
    return text + (ORGANISATION.format(until=until) if until else "")


def domain_signed(tmp_path: Path, level: str = "V3") -> bytes:
    """Alice's mail as another house may have signed it: with whatever certificate of the domain."""
    text = f'[[person]]\naddress = "{DOMAIN}"\nsigning = "required"\n'
    keys = Agent(house(level), tmp_path)
    done = send(mail(f"Alice Example <{DOMAIN}>"), login=DOMAIN, mail_from=DOMAIN, policy=text, keys=keys)
    assert done.plan.event is Event.SIGNED, done.plan.reason
    return done.raw.replace(f"<{DOMAIN}>".encode(), f"<{ALICE}>".encode())


def test_it_signs_for_a_sender_without_a_certificate_where_policy_says_so(tmp_path: Path) -> None:
    done = send(mail(), policy=policy(), keys=Agent(house("V3"), tmp_path))
    assert done.plan.event is Event.SIGNED
    assert ("domain", "bank.example") in done.plan.details
    assert ("source", "corporate") in done.plan.details


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(policy(allowed=False), "domain_signature", id="policy says no"),
        pytest.param(policy(more='level = "V2"'), "V1 may be", id="policy wants no more than V2"),
        pytest.param(policy(until="2026-01-01"), "V1 may be", id="the organisation's validation lapsed"),
    ],
)
def test_and_not_otherwise(tmp_path: Path, text: str, said: str) -> None:
    done = send(mail(), policy=text, keys=Agent(house("V3"), tmp_path))
    assert (done.plan.event, done.plan.outcome) == (Event.DEFERRED, Outcome.TEMPFAIL)
    assert said in done.plan.reason


def test_a_person_s_certificate_is_none_of_a_domain(tmp_path: Path) -> None:
    done = send(mail(), policy=policy(), keys=Agent(house("V4"), tmp_path))
    assert done.plan.event is Event.DEFERRED
    assert "say V4, and V1, V3 may be" in done.plan.reason


def test_the_organisation_s_validation_is_enough_for_it(tmp_path: Path) -> None:
    # Alice was never validated as a person, and the signature does not speak of her.
    done = send(mail(), policy=policy(until="2027-01-01"), keys=Agent(house("V3"), tmp_path))
    assert done.plan.event is Event.SIGNED


def test_an_own_certificate_goes_before_it_although_it_says_less(tmp_path: Path) -> None:
    keys = Agent(house("V3"), tmp_path)
    done = send(mail(BOB), login="bob", mail_from=BOB, policy=policy(), keys=keys)
    assert done.plan.event is Event.SIGNED
    assert "domain" not in dict(done.plan.details)


def test_it_never_signs_for_somebody_else_s_author(tmp_path: Path) -> None:
    done = send(mail("ceo@bank.example"), policy=policy(), keys=Agent(house("V3"), tmp_path))
    assert (done.plan.event, done.plan.outcome) == (Event.REFUSED, Outcome.REFUSE_SENDER)


def test_openssl_accepts_it_and_reads_that_a_domain_signed(tmp_path: Path) -> None:
    message, root, signer = tmp_path / "mail", tmp_path / "root.pem", tmp_path / "signer.pem"
    message.write_bytes(send(mail(), policy=policy(), keys=Agent(house("V3"), tmp_path)).raw)
    root.write_bytes(house("V3").root.public_bytes(Encoding.PEM))
    verify = ["openssl", "cms", "-verify", "-in", message, "-CAfile", root, "-attime", f"{NOW:%s}"]
    subprocess.run([*verify, "-signer", signer, "-out", "/dev/null"], check=True, capture_output=True)
    names = ["openssl", "x509", "-in", signer, "-noout", "-ext", "subjectAltName"]
    assert DOMAIN in subprocess.run(names, check=True, capture_output=True, text=True).stdout
    printed = ["openssl", "cms", "-cmsout", "-print", "-in", message, "-out", tmp_path / "printed"]
    subprocess.run(printed, check=True, capture_output=True)
    attributes = (tmp_path / "printed").read_text()
    assert "id-smime-aa-signatureType" in attributes
    assert "1.2.840.113549.1.9.16.9.2" in attributes


def receiver(issued: Bank, **more: object) -> bank.VerificationParts:
    return verification(issued.trust(domain_signatures=True, **more))


@pytest.mark.parametrize("level", ["V3", "V4"])
def test_a_reader_sees_the_organisation_and_no_person(tmp_path: Path, level: str) -> None:
    verdict = judge(domain_signed(tmp_path, level), parts=receiver(house(level)))
    assert (verdict.word, verdict.status) == (SmimeWord.PASS, Status.TRUSTED)
    assert verdict.identity == Identity(
        level=Level.V3,
        name="",
        org="Example Bank",
        title="",
        address=DOMAIN,
        issuer=verdict.identity.issuer if verdict.identity else "",
    )


def test_that_is_written_into_the_header(tmp_path: Path) -> None:
    raw = send(mail(), policy=policy(), keys=Agent(house("V3"), tmp_path)).raw
    done = bank.receive(raw, parts=receiver(house("V3")))
    assert done.value("Verified-Identity-Text") == "V3 Example Bank, Identity Validated and Trusted"
    assert f'address="{DOMAIN}"' in done.value("Verified-Identity")


_MISMATCH = (SmimeWord.POLICY, Status.MISMATCH, Reason.ADDRESS)


def test_without_the_setting_it_is_somebody_else_s_certificate(tmp_path: Path) -> None:
    raw = domain_signed(tmp_path)
    assert outcome(judge(raw, parts=verification(house("V3").trust()))) == _MISMATCH


def test_who_has_no_more_than_the_mailbox_does_not_speak_for_the_domain(tmp_path: Path) -> None:
    # At a provider of mail for everybody, anybody might get that mailbox.
    assert outcome(judge(domain_signed(tmp_path, "V1"), parts=receiver(house("V1")))) == _MISMATCH


@pytest.mark.parametrize(
    "author",
    ["alice@shop.example", "alice@sub.bank.example", "alice@example", "alice@bank.example.evil.example"],
)
def test_it_speaks_for_its_own_domain_alone(tmp_path: Path, author: str) -> None:
    raw = domain_signed(tmp_path).replace(b"<alice@bank.example>", f"<{author}>".encode())
    assert outcome(judge(raw, parts=receiver(house("V3")))) == _MISMATCH


def test_a_display_name_that_deceives_is_told_of_here_as_well(tmp_path: Path) -> None:
    raw = domain_signed(tmp_path).replace(b"Alice Example", b'"ceo@other.example"')
    assert outcome(judge(raw, parts=receiver(house("V3"))))[2] is Reason.AUTHOR_NAME


def test_the_anchor_s_domains_bound_it(tmp_path: Path) -> None:
    parts = receiver(house("V3"), domains=frozenset({"shop.example"}))
    assert outcome(judge(domain_signed(tmp_path), parts=parts))[2] is Reason.DOMAIN


def test_the_mailbox_itself_is_an_author_as_any_other(tmp_path: Path) -> None:
    keys = Agent(house("V3"), tmp_path)
    text = '[[person]]\naddress = "domain-signing-authority@bank.example"\nsigning = "required"\n'
    done = send(mail(DOMAIN), login=DOMAIN, mail_from=DOMAIN, policy=text, keys=keys)
    assert done.plan.event is Event.SIGNED
    assert "domain" not in dict(done.plan.details)
    verdict = judge(done.raw, parts=verification(house("V3").trust()))
    assert verdict.identity is not None
    assert verdict.identity.address == DOMAIN
    assert ALICE not in verdict.signers
