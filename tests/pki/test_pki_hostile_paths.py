"""Paths as a hostile or careless authority would make them: our verdict, and OpenSSL's on the same files.

The cases are our own, along the lines of RFC 5280. Where ``openssl verify -purpose smimesign`` says the
opposite of what we say, the case says why.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

import pki.hostile_names
import pki.hostile_profile
import pki.hostile_rest  # noqa: F401
from mailsigil.pki.anchors import AnchorSet, TrustStore, load_anchor_file
from mailsigil.pki.path import PathStatus, PathValidator
from pki.hostile import CASES, Case


def _judge(case: Case, folder: Path) -> Any:
    anchors: list[x509.Certificate] = []
    for number, made in enumerate(case.anchors):
        (folder / f"{number}.der").write_bytes(made.der)
        anchors += load_anchor_file(folder / f"{number}.der")
    store = TrustStore((AnchorSet(name="x", certificates=tuple(anchors)),))
    return PathValidator(store).validate(case.sender.der, [made.der for made in case.pool], at=case.at)


@pytest.mark.parametrize("title", CASES)
def test_our_verdict(title: str, tmp_path: Path) -> None:
    case = CASES[title]
    verdict = _judge(case, tmp_path)
    assert verdict.status is case.ours, verdict.reason
    assert bool(verdict.reason) is (verdict.status is not PathStatus.TRUSTED)


def _pem(*made: Any) -> str:
    return "".join(f"{_armour(one.der)}" for one in made)


def _armour(der: bytes) -> str:
    import base64

    text = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"


def _openssl(case: Case, folder: Path) -> tuple[bool, str]:
    for file, made in (("sender", (case.sender,)), ("pool", case.pool), ("anchors", case.anchors)):
        (folder / f"{file}.pem").write_text(_pem(*made))
    command = ["openssl", "verify", "-purpose", "smimesign", "-no-CApath", "-no-CAstore"]
    command += ["-attime", str(int(case.at.timestamp())), "-CAfile", "anchors.pem", *case.options]
    command += ["-untrusted", "pool.pem"] if case.pool else []
    done = subprocess.run([*command, "sender.pem"], cwd=folder, capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("title", CASES)
def test_openssl_agrees(title: str, tmp_path: Path) -> None:
    case = CASES[title]
    accepted, said = _openssl(case, tmp_path)
    assert accepted is case.openssl, said
