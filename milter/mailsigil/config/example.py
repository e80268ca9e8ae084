"""Write the commented example configuration from the documentation on the fields."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator
from types import NoneType
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mailsigil.config.authority import AuthoritySettings, EnrolRule
from mailsigil.config.directories import DirectorySettings
from mailsigil.config.settings import DEFAULT_PATH, Settings
from mailsigil.config.sources import SourceSettings
from mailsigil.config.storage import StorageSettings
from mailsigil.config.trust import TrustSettings

WIDTH: Final = 98

_HEAD: Final = f"""\
# {DEFAULT_PATH}: the settings of mailsigil.
#
# Every setting stands here with its default, behind a "#". Take the "#" away from what you change;
# what you leave follows later versions. `mailsigil check` tells what is wrong, and how to mend it.
"""

_AUTHORITY_HEAD: Final = """\
# ca.toml, in the folder of the embedded authority: what `mailsigil ca serve` does, and what its
# certificates say. Write it before `mailsigil ca init`, so that "url" stands in the first of them, too.
#
# Every setting stands here with its default, behind a "#".
"""

_ENROL: Final[dict[str, object]] = {
    "user": "keyd",
    "addresses": ("*@bank.example",),
    "levels": ("V1", "V3"),
    "organisation": "Example Bank",
}

_TRUST: Final[dict[str, object]] = {
    "name": "Example Bank",
    "files": ("/etc/mailsigil/root.pem",),
    "asserts": ("mailsigil",),
}
_DIRECTORY: Final[dict[str, object]] = {
    "name": "Example Bank",
    "domains": ("bank.example",),
    "profile": "openldap",
    "servers": ("ldaps://ldap1.bank.example", "ldaps://ldap2.bank.example"),
    "bind": "simple",
    "bind_dn": "cn=mailsigil,ou=services,dc=bank,dc=example",
    "password_file": "/etc/mailsigil/ldap-password",
    "people_base": "ou=people,dc=bank,dc=example",
    "group_base": "ou=groups,dc=bank,dc=example",
    "policy_base": "ou=mailsigil,dc=bank,dc=example",
    "attributes": {},
}
_SOURCE: Final[dict[str, object]] = {"name": "bank-est", "domains": ("bank.example",), "kind": "est"}
_SOURCE_KINDS: Final[dict[str, dict[str, object]]] = {
    "est": {"url": "https://ca.bank.example/.well-known/est", "ca_file": "/etc/mailsigil/est-ca.pem"},
    "enrolment": {},
    "folder": {"path": "/etc/mailsigil/more-keys"},
    "pkcs11": {
        "module": "/usr/lib/softhsm/libsofthsm2.so",
        "token": "mail",
        "pin_file": "/etc/mailsigil/hsm-pin",
    },
    "openbao": {
        "url": "https://bao.bank.example:8200",
        "engine": "pki-sign",
        "role": "mail",
        "token_file": "/etc/mailsigil/bao-token",
    },
    "cmp": {
        "url": "http://ca.bank.example/pkix",
        "trusted": "/etc/mailsigil/cmp-ca.pem",
        "reference": "mailsigil",
        "secret_file": "/etc/mailsigil/cmp-secret",
    },
    "embedded": {"folder": "/etc/mailsigil/ca"},
}
"""Values for an example of each kind; the first one stands below the general settings, with enrolment."""
_SOURCE_STORES: Final[dict[str, tuple[str, dict[str, object]]]] = {
    "token": (
        "pkcs11",
        {
            "module": "/usr/lib/softhsm/libsofthsm2.so",
            "token": "mail",
            "pin_file": "/etc/mailsigil/hsm-pin",
        },
    ),
    "transit": (
        "transit",
        {"url": "https://bao.bank.example:8200", "token_file": "/etc/mailsigil/bao-token"},
    ),
}
"""The places where keys are made, each with the word for it in key_store; here for the embedded authority."""
_STORAGE: Final[dict[str, object]] = {"name": "bank-storage", "domains": ("bank.example",), "kind": "openbao"}
_STORAGE_KINDS: Final[dict[str, dict[str, object]]] = {
    "openbao": {"url": "https://bao.bank.example:8200", "token_file": "/etc/mailsigil/bao-token"},
    "est": {
        "url": "https://ca.bank.example/.well-known/est",
        "ca_file": "/etc/mailsigil/est-ca.pem",
        "server_keygen": True,
    },
    "folder": {"path": "/etc/mailsigil/storage-keys"},
    "pkcs11": {
        "path": "/var/lib/mailsigil/wrapped-keys",
        "module": "/usr/lib/softhsm/libsofthsm2.so",
        "token": "mail",
        "pin_file": "/etc/mailsigil/hsm-pin",
        "key_label": "storage",
    },
}
"""The same for storage keys, with the section that makes them."""
_REPEATED: Final[dict[str, tuple[type[BaseModel], dict[str, object]]]] = {
    "trust": (TrustSettings, _TRUST),
    "directory": (DirectorySettings, _DIRECTORY),
}
"""Sections that may stand several times and have no defaults, with values for the example."""


def example_settings() -> str:
    """Give the whole file as text."""
    blocks = [_HEAD]
    for name, field in Settings.model_fields.items():
        if name == "source":
            blocks.extend(_kinds(name, SourceSettings, _SOURCE, _SOURCE_KINDS, "enrolment"))
            blocks.extend(_stores())
        elif name == "storage":
            blocks.extend(_kinds(name, StorageSettings, _STORAGE, _STORAGE_KINDS, "est"))
        elif name in _REPEATED:
            blocks.append(_block(f"#[[{name}]]", *_REPEATED[name]))
        else:
            blocks.append(_block(f"[{name}]", _model(field), {}))
    return "\n".join(blocks)


def example_authority() -> str:
    """Give the embedded authority's file as text."""
    blocks = [_AUTHORITY_HEAD]
    for name, field in AuthoritySettings.model_fields.items():
        if name == "enrol":
            blocks.append(_block("#[[enrol]]", EnrolRule, _ENROL))
        else:
            blocks.append(_block(f"[{name}]", _model(field), {}))
    return "\n".join(blocks)


def toml_value(value: object) -> str:
    """Write a value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"[{', '.join(toml_value(one) for one in value)}]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{json.dumps(key)} = {toml_value(one)}" for key, one in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return str(value)


def _kinds(
    name: str,
    model: type[BaseModel],
    general: dict[str, object],
    kinds: dict[str, dict[str, object]],
    beside: str,
) -> Iterator[str]:
    """One entry with all general settings and the section ``beside``, then one of each other kind."""
    yield _block(f"#[[{name}]]", model, general)
    for kind, values in kinds.items():
        block = _block(f"#[{name}.{kind}]", _model(model.model_fields[kind]), values)
        if kind in (general["kind"], beside):
            yield block
            continue
        short = f"bank-{kind}" if name == "source" else f"bank-{name}-{kind}"
        # A domain has its storage keys at one place; sources may stand beside each other.
        domains = general["domains"] if name == "source" else (f"{kind}.bank.example",)
        head = {"name": short, "kind": kind, "domains": domains}
        lines = [f"#{key} = {toml_value(value)}" for key, value in head.items()]
        yield "\n".join([f"#[[{name}]]", *lines, block])


def _stores() -> Iterator[str]:
    """One source for each place where keys are made."""
    for section, (store, values) in _SOURCE_STORES.items():
        lines = [
            "#[[source]]",
            f'#name = "bank-{section}"',
            '#kind = "embedded"',
            '#domains = ["bank.example"]',
            "#[source.embedded]",
            '#folder = "/etc/mailsigil/ca"',
            "#[source.enrolment]",
            f'#key_store = "{store}"',
        ]
        model = _model(SourceSettings.model_fields[section])
        yield "\n".join([*lines, _block(f"#[source.{section}]", model, values)])


def _block(heading: str, model: type[BaseModel], values: dict[str, object]) -> str:
    lines = [*_prose(inspect.getdoc(model) or ""), heading]
    for name, field in model.model_fields.items():
        if _holds_model(field):
            continue  # A section of its own.
        lines.append("")
        lines.extend(_prose(field.description or ""))
        lines.append(f"#{name} = {toml_value(values.get(name, field.default))}")
    return "\n".join(lines) + "\n"


def _prose(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield from textwrap.wrap(
            " ".join(paragraph.split()), WIDTH, initial_indent="# ", subsequent_indent="# "
        )


def _holds_model(field: FieldInfo) -> bool:
    return any(isinstance(part, type) and issubclass(part, BaseModel) for part in get_args(field.annotation))


def _model(field: FieldInfo) -> type[BaseModel]:
    annotation: Any = field.annotation
    for part in get_args(annotation):
        if part is not NoneType:
            annotation = part
    if not isinstance(annotation, type) or not issubclass(annotation, BaseModel):
        raise TypeError(f"no section: {annotation}")
    return annotation
