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
from mailsigil.config.settings import DEFAULT_PATH, Settings, TrustSettings
from mailsigil.config.sources import SourceSettings

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
            blocks.extend(_sources())
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


def _sources() -> Iterator[str]:
    """One source with all general settings, then one of each other kind."""
    fields = SourceSettings.model_fields
    yield _block("#[[source]]", SourceSettings, _SOURCE)
    for kind, values in _SOURCE_KINDS.items():
        block = _block(f"#[source.{kind}]", _model(fields[kind]), values)
        if kind in (_SOURCE["kind"], "enrolment"):
            yield block
            continue
        head = {"name": f"bank-{kind}", "kind": kind, "domains": _SOURCE["domains"]}
        lines = [f"#{key} = {toml_value(value)}" for key, value in head.items()]
        yield "\n".join(["#[[source]]", *lines, block])


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
