"""A small bank for the tests of the two flows: its authority, its people's keys, its policy. No servers.

Everything is made once a run, with the clock at ``NOW``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cryptography import x509

from mailsigil.cms.parse import CmsLimits
from mailsigil.directory.file import FileDirectory
from mailsigil.dkim.resolver import TxtLookup
from mailsigil.inbound import InboundParts, inbound
from mailsigil.keys.authority import Authority
from mailsigil.keys.errors import KeyServiceError
from mailsigil.keys.local import LocalKeys
from mailsigil.keys.profile import KeyKind, Subject
from mailsigil.keys.protocol import Credential
from mailsigil.message.fields import Field, parse_fields
from mailsigil.message.mime import MimeLimits
from mailsigil.message.spool import Spool
from mailsigil.outbound import OutboundParts, outbound
from mailsigil.pki.anchors import AnchorSet, TrustStore
from mailsigil.pki.evidence import RevocationStatus
from mailsigil.pki.path import PathValidator
from mailsigil.pki.policies import Level
from mailsigil.pki.revocation import Carried, RevocationVerdict
from mailsigil.plan import Envelope, Event, Outcome, Plan
from mailsigil.rewrite import rewritten
from mailsigil.signing import Keys
from mailsigil.verdict import Reason, SmimeWord, Status, Verdict
from mailsigil.verification import VerificationParts, verify

NOW = datetime(2026, 11, 22, 2, 15, 16, tzinfo=UTC)
HOST = "mx.bank.example"
ALICE, BOB = "alice@bank.example", "bob@bank.example"
CUSTOMER = "carl@customer.example"

PEOPLE = (
    Subject(
        level=Level.V4,
        address=ALICE,
        given_name="Alice",
        surname="Example",
        organisation="Example Bank",
        title="Account Manager",
    ),
    Subject(level=Level.V2, address=BOB, given_name="Bob", surname="Sample"),
    Subject(level=Level.V3, address="office@bank.example", organisation="Example Bank"),
    Subject(level=Level.V1, address="info@bank.example"),
    Subject(level=Level.V1, address="ceo@bank.example"),
    Subject(level=Level.V1, address="müller@bank.example"),
)

POLICY = """
[[domain]]
name = "bank.example"
signing = "required"
unauthorised = "refuse"
exempt_recipients = ["*@lists.example"]

[[person]]
address = "alice@bank.example"
aliases = ["alice.example@bank.example"]
logins = ["alice"]
may_send_as = ["office@bank.example"]

[[person]]
address = "bob@bank.example"
logins = ["bob"]

[[person]]
address = "müller@bank.example"
logins = ["mueller"]

[[person]]
address = "nokey@bank.example"
logins = ["nokey"]

[[client]]
networks = ["192.0.2.10/32"]
may_send_as = ["info@bank.example"]
"""


class Keyring:
    """Keys as the flows see them; remembers what was signed, and can be out of order."""

    def __init__(self, loaded: Sequence[LocalKeys]) -> None:
        self._loaded = loaded
        self.fault: KeyServiceError | None = None
        self.signed: list[str] = []

    def find(self, address: str, *, source: str = "", without: str = "") -> tuple[Credential, ...]:
        if self.fault is not None:
            raise self.fault
        return tuple(found for keys in self._loaded for found in keys.find(address))

    def sign(self, *, key_id: str, address: str, scheme: str, data: bytes) -> bytes:
        self.signed.append(address)
        keys = next(keys for keys in self._loaded if keys.find(address))
        return keys.sign(key_id=key_id, address=address, scheme=scheme, data=data)


@dataclass(frozen=True)
class Bank:
    """An authority and its people's keys, in memory."""

    root: x509.Certificate
    issuing: x509.Certificate
    pem: Mapping[str, bytes]
    """Key and certificates of each address in one PEM file."""
    now: datetime

    def keyring(self) -> Keyring:
        with tempfile.TemporaryDirectory() as name:
            return Keyring([self._load(Path(name) / "one.pem", pem) for pem in self.pem.values()])

    def _load(self, path: Path, pem: bytes) -> LocalKeys:
        path.write_bytes(pem)
        return LocalKeys.load(path, now=lambda: self.now)

    def trust(self, **more: object) -> TrustStore:
        """What makes a receiver trust this bank; ``more`` goes to the one set of anchors."""
        given = {"asserts": frozenset({"mailsigil"})} | more
        return TrustStore((AnchorSet(name="bank", certificates=(self.root,), **given),))  # type: ignore[arg-type]


def found_bank(
    people: Sequence[Subject] = PEOPLE, *, kind: KeyKind = KeyKind.P256, now: datetime = NOW, days: int = 365
) -> Bank:
    """A new authority with certificates for these people."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority.init(folder / "ca", organisation="Example Bank", now=now)
        pem = {}
        for subject in people:
            authority.issue(subject, out=folder / "keys", key=kind, now=now, days=days)
            (path,) = (folder / "keys").iterdir()
            pem[subject.address] = path.read_bytes()
            path.unlink()
        return Bank(authority.root, authority.issuing, pem, now)


@cache
def bank() -> Bank:
    """The bank of most tests."""
    return found_bank()


@cache
def stranger() -> Bank:
    """An authority of the same names that nobody trusts."""
    return found_bank()


@cache
def directory(policy: str = POLICY) -> FileDirectory:
    """A directory from the text of a policy file."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "policy.toml"
        path.write_text(policy)
        return FileDirectory.load(path)


def mail(
    author: str = f"Alice Example <{ALICE}>",
    body: bytes = b"Dear Carl,\r\n\r\nsee you on Friday.\r\n",
    *,
    more: bytes = b"",
    date: bytes = b"Sun, 22 Nov 2026 02:15:00 +0000",
) -> bytes:
    """A plain message; ``more`` are whole header fields."""
    head = f"From: {author}\r\nTo: Carl Customer <{CUSTOMER}>\r\nSubject: Your appointment\r\n".encode()
    return head + b"Date: %b\r\nMessage-ID: <1@bank.example>\r\n%b\r\n%b" % (date, more, body)


def cut(raw: bytes) -> tuple[tuple[Field, ...], Spool]:
    """Fields and body, as the milter gets them."""
    fields, start = parse_fields(raw)
    body = Spool()
    body.write(raw[start:])
    return fields, body


@dataclass(frozen=True)
class Done:
    """A plan and what it makes of the message; no octets when the message does not go on."""

    plan: Plan
    raw: bytes

    def value(self, name: str) -> str:
        """The one field of a name, unfolded; fails when there is none or more than one."""
        (value,) = self.values(name)
        return value

    def values(self, name: str) -> list[str]:
        key = name.lower().encode()
        return [field.unfolded.decode() for field in parse_fields(self.raw)[0] if field.key == key]


def send(
    raw: bytes,
    *,
    login: str = "alice",
    mail_from: str = ALICE,
    recipients: tuple[str, ...] = (CUSTOMER,),
    client: str = "192.0.2.99",
    policy: str = POLICY,
    keys: Keys | None = None,
    now: datetime = NOW,
) -> Done:
    """The outbound way of one message."""
    envelope = Envelope(client_address=client, login=login, mail_from=mail_from, recipients=recipients)
    parts = OutboundParts(
        directory=directory(policy),
        keys=keys or bank().keyring(),
        now=lambda: now,
        new_boundary=lambda: "b0undary",
        authserv_id=HOST,
        mime_limits=MimeLimits(),
    )
    return _done(outbound(envelope, *cut(raw), parts), raw)


def signed(
    raw: bytes, *, by: Bank | None = None, author: str = ALICE, form: str = "clear", now: datetime = NOW
) -> bytes:
    """A message as the bank sends it, signed in the author's name."""
    policy = f'[[person]]\naddress = "{author}"\nsigning = "required"\nform = "{form}"\n'
    done = send(raw, login=author, mail_from=author, policy=policy, keys=(by or bank()).keyring(), now=now)
    if done.plan.event is not Event.SIGNED:
        raise ValueError(f"was not signed: {done.plan.reason}")
    return done.raw


class _NothingRevoked:
    """Revocation has tests of its own (tests/pki)."""

    def status(
        self, chain: tuple[bytes, ...], *, carried: Carried, at: datetime, waited: float = 0.0
    ) -> RevocationVerdict:
        return RevocationVerdict(RevocationStatus.GOOD)


def verification(trust: TrustStore | None = None, **more: object) -> VerificationParts:
    """What verification is handed."""
    given = {"mime_limits": MimeLimits(), "cms_limits": CmsLimits(), "revocation": _NothingRevoked()} | more
    return VerificationParts(validator=PathValidator(trust or bank().trust()), **given)  # type: ignore[arg-type]


def judge(raw: bytes, *, parts: VerificationParts | None = None, at: datetime = NOW, **more: bool) -> Verdict:
    """The verdict about a message."""
    return verify(*cut(raw), parts or verification(), at=at, **more)


def outcome(verdict: Verdict) -> tuple[SmimeWord, Status, Reason]:
    """A verdict without an identity in three words."""
    if verdict.identity is not None:
        raise ValueError(f"an identity: {verdict.identity}")
    return verdict.word, verdict.status, verdict.reason


def no_dns(name: bytes) -> bytes | None:
    """A DNS that knows nothing."""
    return None


def receive(
    raw: bytes,
    *,
    parts: VerificationParts | None = None,
    txt: TxtLookup = no_dns,
    now: Callable[[], datetime] = lambda: NOW,
) -> Done:
    """The inbound way of one message."""
    given = InboundParts(
        verification=parts or verification(),
        txt=txt,
        now=now,
        authserv_id=HOST,
        dkim_max_bytes=1_000_000,
        dkim_max_signatures=5,
    )
    return _done(inbound(*cut(raw), given), raw)


def _done(plan: Plan, raw: bytes) -> Done:
    if plan.outcome is not Outcome.ACCEPT:
        return Done(plan, b"")
    return Done(plan, b"".join(rewritten(*cut(raw), plan.edits)))
