"""May this client have mail signed in this author's name?

A signature says "this person wrote it", so it needs more than the right to send. All of these must agree:
who logged in, the envelope sender, the one address in From, and later the certificate. An explicit rule of
the administrator ("may send as") can stand in for ownership, and nothing else can.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from mailsigil.policy.patterns import first_match, normal_key


class Grant(Enum):
    """The outcomes of :func:`authorise`."""

    GRANTED = "granted"
    """The mail may be signed in the author's name."""
    NO_LOGIN = "no-login"
    """The client did not log in, and no rule for its network covers the author."""
    LOGIN_MISMATCH = "login-mismatch"
    """The login owns another address, or none, and no rule covers the author."""
    ENVELOPE_MISMATCH = "envelope-mismatch"
    """The author is right, but the envelope sender is somebody else, or nobody."""
    UNFIT_ADDRESS = "unfit-address"
    """The author's address is of a form that is never signed for."""


@dataclass(frozen=True, slots=True)
class Authorisation:
    """An outcome with a sentence for the log. Addresses in it are quoted: it stays one line."""

    grant: Grant
    reason: str

    @property
    def granted(self) -> bool:
        """Tell whether the mail may be signed."""
        return self.grant is Grant.GRANTED


def authorise(
    *,
    login: str,
    login_addresses: Collection[str],
    envelope_sender: str,
    author: str,
    send_as: Sequence[str],
) -> Authorisation:
    """Decide whether a message may be signed in the name of ``author``.

    ``login``            SASL login name, empty where the client did not log in
    ``login_addresses``  addresses and aliases of the person with that login; empty where nobody has it
    ``envelope_sender``  reverse-path without brackets; empty for a bounce
    ``author``           the one address of the From field
    ``send_as``          patterns of the rule that applies: the person's with a login, the network's without

    Raises :class:`PatternError` where ``send_as`` holds a text that is no pattern.
    """
    # 1. The author is one plain address. What cannot be compared is not signed.
    author_key = normal_key(author)
    if not author_key:
        return Authorisation(Grant.UNFIT_ADDRESS, f"the author {author!r} is no plain address")

    # 2. The addresses that the login owns. Without a login nothing is owned, whatever the caller says.
    owned = {normal_key(address) for address in login_addresses} - {""} if login else set()

    # 3. The author is owned, or a rule covers it.
    author_ground = _ground(author_key, owned, send_as)
    if not author_ground:
        return _author_mismatch(login, author, owned, send_as)

    # 4. The envelope sender is the author, or is owned or covered itself. A bounce has none.
    sender_key = normal_key(envelope_sender)
    if sender_key != author_key and not (sender_key and _ground(sender_key, owned, send_as)):
        return Authorisation(
            Grant.ENVELOPE_MISMATCH,
            f"the envelope sender {envelope_sender!r} is neither the author {author!r} nor an address that"
            f" {_who(login)} may send as",
        )
    return Authorisation(Grant.GRANTED, f"{_who(login)}: {author!r} {author_ground}")


def _ground(key: str, owned: Collection[str], send_as: Sequence[str]) -> str:
    """On what ground an address may be used; empty where there is none."""
    if key in owned:
        return "is an own address"
    rule = first_match(send_as, key)
    return "" if rule is None else f'is covered by the rule "{rule}"'


def _author_mismatch(
    login: str, author: str, owned: Collection[str], send_as: Sequence[str]
) -> Authorisation:
    if not login:
        why = "no rule for its network covers" if send_as else "its network has no rule that covers"
        return Authorisation(Grant.NO_LOGIN, f"the client did not log in, and {why} {author!r}")
    if not owned:
        return Authorisation(Grant.LOGIN_MISMATCH, f"{_who(login)} belongs to nobody in the directory")
    return Authorisation(
        Grant.LOGIN_MISMATCH, f"{_who(login)} neither owns {author!r} nor may send as this address"
    )


def _who(login: str) -> str:
    return f"login {login!r}" if login else "a client without login"
