"""The shape of the policy file, ``/etc/mailsigil/policy.toml``, documented on the field."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from mailsigil.config.fields import List, Network
from mailsigil.directory.certificate_rules import CertificateKeys, reached
from mailsigil.message.address import Address
from mailsigil.policy.model import (
    Decryption,
    Form,
    IdentityLevel,
    Misordered,
    SigningMode,
    Timestamp,
    Unauthorised,
)
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


def _moment(value: object) -> object:
    """A day means all of it; a time without a zone is UTC."""
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC) + timedelta(days=1)
    raise ValueError("write a date without quotes, like 2027-12-31 or 2027-12-31T18:00:00Z")


Pattern = Annotated[str, AfterValidator(_pattern)]
AddressKey = Annotated[str, AfterValidator(_address_key)]
DomainName = Annotated[str, AfterValidator(_domain)]
Login = Annotated[str, AfterValidator(_login)]
Moment = Annotated[datetime, BeforeValidator(_moment)]


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
    level: Annotated[IdentityLevel | None, Strict(False)] = Field(
        default=None, description='The most that a signature says of the sender: "V1" to "V4".'
    )
    timestamp: Annotated[Timestamp | None, Strict(False)] = Field(
        default=None, description='A timestamp in the signature: "never", "preferred" or "required".'
    )
    certificates: Annotated[tuple[CertificateKeys, ...] | None, Strict(False), AfterValidator(reached)] = (
        Field(
            default=None,
            description="Which certificate signs for which recipients, where a sender has several: a list of"
            " { recipients, source, otherwise }; the first that all recipients fit decides.",
        )
    )
    domain_signature: bool | None = Field(
        default=None,
        description="true: a certificate of the whole domain may sign, for a sender who has none.",
    )
    decryption: Annotated[Decryption | None, Strict(False)] = Field(
        default=None,
        description="Encrypted mail to these addresses, when it is stored, where [delivery] asks the policy:"
        ' "never", "signed", "inert" or "any", as "unauthenticated" there, or "default": as it says there.',
    )
    valid_until: Moment | None = Field(
        default=None, description="From this time on this entry is as if it were not there."
    )


class DomainKeys(PolicyKeys):
    """A mail domain of the organisation."""

    name: DomainName = Field(description="The domain.")


class GroupKeys(PolicyKeys):
    """A group of senders: one listed here, or one of an LDAP directory by its distinguished name."""

    name: str = Field(
        min_length=1, max_length=1000, description="A name, or the distinguished name of an LDAP group."
    )
    members: List[Pattern] = Field(default=(), description="Addresses that belong to it: patterns.")
    priority: int = Field(default=0, description="Of several groups of a sender the greatest decides.")


class OrganisationKeys(BaseModel):
    """An organisation whose identity was validated."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200, description="Its name.")
    domains: List[DomainName] = Field(min_length=1, description="Its mail domains.")
    validated_until: Moment | None = Field(
        default=None, description="While its validation holds its people may sign V3 and V4."
    )
    employees: Literal["V1", "V3"] = Field(
        default="V3",
        description="What everybody listed here may say without a validation of their own: the organisation's"
        " name, or the mailbox alone.",
    )
    key_service: str = Field(default="", max_length=200, description="Which authority serves it.")


class PersonKeys(PolicyKeys):
    """One who sends mail."""

    address: AddressKey = Field(description="The main address.")
    name: str = Field(default="", max_length=200, description="Full name, for messages and logs.")
    given_name: str = Field(
        default="",
        max_length=64,
        description='Given names, for certificates that name a person. Empty: "name" without its last word.',
    )
    surname: str = Field(default="", max_length=64, description='Surname. Empty: the last word of "name".')
    title: str = Field(default="", max_length=64, description="Title or position, for certificates.")
    aliases: List[AddressKey] = Field(default=(), description="Further addresses of this person.")
    logins: List[Login] = Field(
        default=(), description="SASL login names; where none is listed, the address is the login name."
    )
    may_send_as: List[Pattern] = Field(
        default=(), description="Others in whose name this person may write: patterns."
    )
    disabled: bool = Field(
        default=False, description="true: never signed for, and no login, whatever a directory says."
    )
    validated_level: Annotated[IdentityLevel | None, Strict(False)] = Field(
        default=None,
        description="What was validated about this person; needs an organisation. It goes before what a"
        " directory records.",
    )
    validated_by: str = Field(default="", max_length=200, description="Who validated it.")
    validated_until: Moment | None = Field(default=None, description="Until when that holds.")


class ClientKeys(BaseModel):
    """Machines that send without a login, such as a billing system."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    networks: List[Network] = Field(min_length=1, description="Their networks.")
    may_send_as: List[Pattern] = Field(min_length=1, description="In whose name they may write: patterns.")


class PolicyFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    default: PolicyKeys = PolicyKeys()
    organisation: List[OrganisationKeys] = ()
    domain: List[DomainKeys] = ()
    group: List[GroupKeys] = ()
    person: List[PersonKeys] = ()
    client: List[ClientKeys] = ()
