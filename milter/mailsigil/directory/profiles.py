"""Two kinds of directories, ready to use: which attributes mean what, and how a disabled account looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from mailsigil.config.directories import DirectorySettings
from mailsigil.directory.entry import Entry

Names = tuple[str, ...]

IN_CHAIN: Final = "1.2.840.113556.1.4.1941"
"""Active Directory's rule that follows groups in groups."""
ACCOUNT_DISABLED: Final = 0x2
"""ADS_UF_ACCOUNTDISABLE in userAccountControl."""
LOCKED_FOR_GOOD: Final = "000001010000Z"
"""pwdAccountLockedTime of an account that only an administrator opens again."""
NEVER_EXPIRES: Final = frozenset({0, 0x7FFFFFFFFFFFFFFF})
EPOCH_1601: Final = datetime(1601, 1, 1, tzinfo=UTC)

ACTIVITY: Final = ("userAccountControl", "accountExpires", "pwdAccountLockedTime", "nsAccountLock")
"""Attributes that :func:`inactive` looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Attribute names by what they are for, and filters for people and groups."""

    people_filter: str
    group_filter: str
    names: Mapping[str, Names]
    nested_rule: bool = False
    """The server itself can follow groups in groups."""

    def __getitem__(self, role: str) -> Names:
        return self.names.get(role, ())

    @property
    def person_attributes(self) -> Names:
        """All that is read of a person."""
        roles = (
            "address alias login name given_name surname title company member_of send_as"
            " validated_level validated_by validated_until"
        )
        found = [name for role in roles.split() for name in self[role]]
        return tuple(dict.fromkeys((*found, *ACTIVITY)))


_OURS: Final[dict[str, Names]] = {
    "send_as": ("mailsigilSendAs",),
    "validated_level": ("mailsigilValidatedLevel",),
    "validated_by": ("mailsigilValidatedBy",),
    "validated_until": ("mailsigilValidatedUntil",),
    "domain": ("mailsigilDomain",),
    "organisation_valid_until": ("mailsigilIdentityValidUntil",),
    "key_service": ("mailsigilKeyService",),
}
"""The names in the schema of ``policies/``, the same in both kinds of directories."""

OPENLDAP: Final = Profile(
    people_filter="(objectClass=inetOrgPerson)",
    group_filter="(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames))",
    names=MappingProxyType(
        {
            **_OURS,
            "address": ("mail",),
            "login": ("uid", "mail"),
            "name": ("displayName", "cn"),
            "given_name": ("givenName",),
            "surname": ("sn",),
            "title": ("title",),
            "company": ("o",),
            "group_member": ("member", "uniqueMember"),
        }
    ),
)

ACTIVE_DIRECTORY: Final = Profile(
    people_filter="(&(objectCategory=person)(objectClass=user))",
    group_filter="(objectClass=group)",
    names=MappingProxyType(
        {
            **_OURS,
            "address": ("mail",),
            "alias": ("proxyAddresses",),
            "login": ("sAMAccountName", "userPrincipalName", "mail"),
            "name": ("displayName", "cn"),
            "given_name": ("givenName",),
            "surname": ("sn",),
            "title": ("title",),
            "company": ("company",),
            "member_of": ("memberOf",),
            "group_member": ("member",),
            "delegates": ("publicDelegates",),
        }
    ),
    nested_rule=True,
)

_PROFILES: Final = {"openldap": OPENLDAP, "active-directory": ACTIVE_DIRECTORY}


def profile_of(settings: DirectorySettings) -> Profile:
    """Give the profile that the settings name, with what they change of it."""
    base = _PROFILES[settings.profile]
    changed = {str(role): names for role, names in settings.attributes.items()}
    return Profile(
        people_filter=settings.people_filter or base.people_filter,
        group_filter=settings.group_filter or base.group_filter,
        names=MappingProxyType({**base.names, **changed}),
        nested_rule=base.nested_rule,
    )


def inactive(entry: Entry, at: datetime) -> str:
    """Tell why an account is not in use, or give an empty text. What cannot be read counts as disabled."""
    control = entry.text(["userAccountControl"])
    if control:
        if not _is_number(control):
            return f'userAccountControl is "{control}"'
        if int(control) & ACCOUNT_DISABLED:
            return "the account is disabled (userAccountControl)"
    expires = entry.text(["accountExpires"])
    if expires:
        if not _is_number(expires):
            return f'accountExpires is "{expires}"'
        if int(expires) not in NEVER_EXPIRES and _file_time(int(expires)) <= at:
            return "the account has expired (accountExpires)"
    if entry.text(["pwdAccountLockedTime"]) == LOCKED_FOR_GOOD:
        return "the account is locked (pwdAccountLockedTime)"
    if entry.text(["nsAccountLock"]).lower() == "true":
        return "the account is locked (nsAccountLock)"
    return ""


def _is_number(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit() and len(text) < 25


def _file_time(ticks: int) -> datetime:
    """Tenths of microseconds since 1601, as Windows counts; what is out of range lies in the far future."""
    try:
        return EPOCH_1601 + timedelta(microseconds=ticks // 10)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
