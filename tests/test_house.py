"""The house rules that code can check: who imports whom, and what must not be there."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "milter"
PACKAGE = SOURCE / "mailsigil"

# Room or top-level file -> what of ours it may import besides itself.
MAY_IMPORT = {
    "folding": set(),
    "message": set(),
    "cms": set(),
    "pki": set(),
    "policy": set(),
    "process": set(),
    "dkim": {"message"},
    "plan": {"message"},
    "verdict": {"pki"},
    "header_syntax": {"message"},
    "headers": {"header_syntax", "message", "dkim", "pki", "plan", "verdict"},
    "direction": {"plan"},
    "rewrite": {"message", "plan"},
    "compose": {"message", "plan"},
    "division": {"message"},
    "signature": {"message", "cms", "division", "verdict"},
    "shown": {"message", "signature", "verdict"},
    "holder": {"message", "pki", "verdict"},
    "verification": {"message", "cms", "pki", "holder", "shown", "signature", "verdict"},
    "signing": {"message", "cms", "pki", "policy", "keys"},
    "outbound": {"message", "policy", "dkim", "headers", "compose", "plan", "signing", "directory", "keys"}
    | {"claims", "protected"},
    "claims": {"message", "policy", "plan", "directory"},
    "protected": {"message", "cms"},
    "inbound": {"message", "direction", "dkim", "headers", "plan", "verdict", "verification"},
    "decryption": {"message", "cms", "keys"},
    "delivery": {"message", "decryption", "inbound", "plan", "rewrite", "verdict", "directory"},
    "delivery_choice": {"message", "delivery", "policy", "directory"},
    "config": set(),
    "directory": {"policy", "message", "config"},
    "keys": {"cms", "pki", "process", "config"},
    "lifecycle": {"keys", "directory", "policy", "config", "pki", "message", "cms", "process"},
    "usage": {"lifecycle", "keys", "config", "pki"},
    "ca": {"keys", "pki", "process", "config"},
    "dovecot": {"keys", "config", "process", "message", "delivery"},
    "km": {"keys", "cms", "pki", "config", "directory", "message", "outbound", "plan", "policy", "rewrite"}
    | {"service", "verdict", "verification"},
    "milter": {"message", "plan", "process"},
}

# How addresses are compared is one thing for all.
EVERYBODY_MAY_IMPORT = {"folding"}

# The core is handed the directory and the keys: of these rooms it may know the interfaces alone.
INTERFACES = {"mailsigil.directory.api", "mailsigil.keys.errors", "mailsigil.keys.protocol"}


def _files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def _imports(path: Path) -> tuple[str, ...]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.append(node.module)
    return tuple(names)


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    room = _room(path)
    if room not in MAY_IMPORT:
        return
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "mailsigil" and len(parts) > 1 and parts[1] != room:
            assert parts[1] in MAY_IMPORT[room] | EVERYBODY_MAY_IMPORT, f"{path} must not import {name}"


@pytest.mark.parametrize(
    "name",
    ["outbound.py", "claims.py", "signing.py", "inbound.py", "verification.py", "signature.py", "shown.py"],
)
def test_the_core_knows_directory_and_keys_by_their_interfaces_alone(name: str) -> None:
    for module in _imports(PACKAGE / name):
        if module.startswith(("mailsigil.directory", "mailsigil.keys")):
            assert module in INTERFACES


def test_only_the_server_imports_pymilter() -> None:
    importers = {
        path.relative_to(PACKAGE).as_posix()
        for path in _files()
        if {"Milter", "milter"} & {name.split(".")[0] for name in _imports(path)}
    }
    assert importers == {"milter/server.py"}


def test_only_the_key_room_can_sign() -> None:
    allowed = {"keys", "cms", "demo"}
    for path in _files():
        text = path.read_text()
        if "load_pem_private_key" in text or "sign_with(" in text or "load_key_and_certificates" in text:
            assert _room(path) in allowed, f"{path} handles private keys"


def test_the_source_folder_is_no_package() -> None:
    # pymilter's C module is called `milter`: a package of that name would hide it.
    assert not (SOURCE / "__init__.py").exists()


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
