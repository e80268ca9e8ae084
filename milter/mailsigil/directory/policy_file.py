"""The shape of the policy file, ``/etc/mailsigil/policy.toml``, documented on the field."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict

from mailsigil.config.fields import List, Network
from mailsigil.message.address import Address
from mailsigil.policy.model import Form, Misordered, SigningMode, Unauthorised
from mailsigil.policy.patterns import parse_pattern


def _pattern(text: str) -> str:
    parse_pattern(text)
    return text


def _address_key(text: str) -> str:
    if "*" in text:
        raise ValueError(f'"{text}" is a pattern; a person has an address, and patterns go to "may_send_as"')
    try:
        return Address.parse(text).key
    except ValueError as error:
        raise ValueError(f'"{text}" is no mail address; write one like "alice@bank.example"') from error


def _domain(text: str) -> str:
    try:
        return Address.parse(f"postmaster@{text}").domain
    except ValueError as error:
        raise ValueError(f'"{text}" is no mail domain; write one like "bank.example"') from error


def _login(text: str) -> str:
    if not text or text != text.strip() or not text.isprintable():
        raise ValueError(f'"{text}" is no login name')
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
AddressKey = Annotated[str, AfterValidator(_address_key)]
DomainName = Annotated[str, AfterValidator(_domain)]
Login = Annotated[str, AfterValidator(_login)]


class PolicyKeys(BaseModel):
    """What may be said for everyone, a domain, or a person. What is left out comes from the next of these."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    signing: Annotated[SigningMode | None, Strict(False)] = Field(
        default=None,
        description='"required": signed, or deferred; "preferred": signed where that works; "never".',
    )
    form: Annotated[Form | None, Strict(False)] = Field(
        default=None, description='"clear": every client can read it; "opaque": survives rewriting servers.'
    )
    unauthorised: Annotated[Unauthorised | None, Strict(False)] = Field(
        default=None,
        description='Mail in the name of somebody else: "pass" it on unsigned, or "refuse" it (550).',
    )
    misordered_dkim: Annotated[Misordered | None, Strict(False)] = Field(
        default=None,
        description='Mail that was DKIM-signed too early: "pass" it on without S/MIME, "strip" the DKIM'
        ' signature, or "refuse" it (550).',
    )
    exempt_recipients: Annotated[tuple[Pattern, ...] | None, Strict(False)] = Field(
        default=None, description="Recipients whose mail is left alone, such as mailing lists: patterns."
    )


class DomainKeys(PolicyKeys):
    """A mail domain of the organisation."""

    name: DomainName = Field(description="The domain.")


class PersonKeys(PolicyKeys):
    """One who sends mail."""

    address: AddressKey = Field(description="The main address.")
    name: str = Field(default="", max_length=200, description="Full name, for messages and logs.")
    aliases: List[AddressKey] = Field(default=(), description="Further addresses of this person.")
    logins: List[Login] = Field(
        default=(), description="SASL login names; where none is listed, the address is the login name."
    )
    may_send_as: List[Pattern] = Field(
        default=(), description="Others in whose name this person may write: patterns."
    )


class ClientKeys(BaseModel):
    """Machines that send without a login, such as a billing system."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    networks: List[Network] = Field(min_length=1, description="Their networks.")
    may_send_as: List[Pattern] = Field(min_length=1, description="In whose name they may write: patterns.")


class PolicyFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    default: PolicyKeys = PolicyKeys()
    domain: List[DomainKeys] = ()
    person: List[PersonKeys] = ()
    client: List[ClientKeys] = ()
