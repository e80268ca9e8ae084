"""Write the commented example configuration from the documentation on the fields."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mailsigil.config.directories import DirectorySettings
from mailsigil.config.settings import DEFAULT_PATH, Settings, TrustSettings

WIDTH: Final = 98

_HEAD: Final = f"""\
# {DEFAULT_PATH}: the settings of mailsigil.
#
# Every setting stands here with its default, behind a "#". Take the "#" away from what you change;
# what you leave follows later versions. `mailsigil check` tells what is wrong, and how to mend it.
"""

_TRUST: Final[dict[str, object]] = {
    "name": "Example Bank",
    "files": ("/etc/mailsigil/ca/root.pem",),
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
_REPEATED: Final[dict[str, tuple[type[BaseModel], dict[str, object]]]] = {
    "trust": (TrustSettings, _TRUST),
    "directory": (DirectorySettings, _DIRECTORY),
}
"""Sections that may stand several times and have no defaults, with values for the example."""


def example_settings() -> str:
    """Give the whole file as text."""
    blocks = [_HEAD]
    for name, field in Settings.model_fields.items():
        if name in _REPEATED:
            blocks.append(_block(f"#[[{name}]]", *_REPEATED[name]))
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


def _block(heading: str, model: type[BaseModel], values: dict[str, object]) -> str:
    lines = [*_prose(inspect.getdoc(model) or ""), heading]
    for name, field in model.model_fields.items():
        lines.append("")
        lines.extend(_prose(field.description or ""))
        lines.append(f"#{name} = {toml_value(values.get(name, field.default))}")
    return "\n".join(lines) + "\n"


def _prose(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield from textwrap.wrap(
            " ".join(paragraph.split()), WIDTH, initial_indent="# ", subsequent_indent="# "
        )


def _model(field: FieldInfo) -> type[BaseModel]:
    annotation: Any = field.annotation
    if not isinstance(annotation, type) or not issubclass(annotation, BaseModel):
        raise TypeError(f"no section: {annotation}")
    return annotation
