"""A trial mail, signed on the outbound way with one key and judged by our own verifier."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import format_datetime
from io import BytesIO

from mailsigil.config.settings import Settings
from mailsigil.config.trust import RevocationSettings
from mailsigil.directory.one_person import OnePerson
from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.protocol import Credential
from mailsigil.keys.source import SigningKey
from mailsigil.message.reader import read_message
from mailsigil.outbound import outbound
from mailsigil.pki.anchors import RevocationMode, TrustStore
from mailsigil.plan import Envelope, Event, Outcome
from mailsigil.policy.model import Form
from mailsigil.rewrite import rewritten
from mailsigil.service import outbound_parts, verification_parts
from mailsigil.verdict import Verdict
from mailsigil.verification import verify


class TrialFailed(Exception):
    """The trial mail was not signed; the message tells why."""


@dataclass(frozen=True, slots=True)
class _OneKey:
    """A source of one key, for the agent's own checks."""

    key: SigningKey

    def find(self, address: str) -> tuple[SigningKey, ...]:
        return (self.key,) if address in self.key.addresses else ()

    def get(self, key_id: str) -> SigningKey | None:
        return self.key if self.key.credential.key_id == key_id else None

    def count(self) -> int:
        return 1

    def refresh(self) -> None:
        """Nothing changes."""

    def reload(self) -> None:
        """Nothing changes."""


class _Agent:
    """The key agent's client without a socket."""

    def __init__(self, key: SigningKey, now: Callable[[], datetime]) -> None:
        self._agent = KeyAgent([_OneKey(key)], now=now)

    def find(self, address: str, *, source: str = "", without: str = "") -> tuple[Credential, ...]:
        return self._agent.find(address, source=source, without=without)

    def sign(self, *, key_id: str, address: str, scheme: str, data: bytes) -> bytes:
        return self._agent.sign(
            key_id=key_id, address=address, scheme=scheme, data=data, peer_uid=os.geteuid()
        )


def trial(
    key: SigningKey, address: str, *, settings: Settings, trust: TrustStore, now: Callable[[], datetime]
) -> Verdict:
    """Signs a mail of an address and gives the verdict on it. Revocation is not asked for.

    Raises TrialFailed where nothing was signed.
    """
    text = (
        f"From: {address}\r\nTo: {address}\r\nSubject: mailsigil km test\r\n"
        f"Date: {format_datetime(now())}\r\nMessage-ID: <km-test@{address.rpartition('@')[2]}>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nA trial: grüß Gott.\r\n"
    )
    directory = OnePerson(address, Form.CLEAR, where="mailsigil km test")
    parts = outbound_parts(settings, directory=directory, keys=_Agent(key, now), trust=trust, now=now)
    message = read_message(BytesIO(text.encode()))
    envelope = Envelope(login=address, mail_from=address, recipients=(address,))
    plan = outbound(envelope, message.fields, message.body, parts)
    if plan.outcome is not Outcome.ACCEPT or plan.event is not Event.SIGNED:
        raise TrialFailed(plan.reason)
    signed = read_message(BytesIO(b"".join(rewritten(message.fields, message.body, plan.edits))))
    offline = settings.model_copy(update={"revocation": RevocationSettings(fetch=False)})
    unasked = TrustStore(tuple(replace(each, revocation=RevocationMode.OFF) for each in trust.sets))
    return verify(
        signed.fields,
        signed.body,
        verification_parts(offline, unasked, now=now),
        at=now(),
        damage=signed.damage,
    )
