"""Paths as a hostile or careless authority would make them: our verdict, and OpenSSL's on the same files.

The cases are our own, along the lines of RFC 5280. Where ``openssl verify -purpose smimesign`` says the
opposite of what we say, the case says why.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Sequence
from datetime import datetime
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


def _pem(made: Sequence[Any]) -> str:
    texts = (base64.encodebytes(one.der).decode() for one in made)
    return "".join(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n" for text in texts)


def openssl_verdict(
    folder: Path,
    sender: Any,
    pool: Sequence[Any],
    anchors: Sequence[Any],
    *,
    at: datetime,
    options: Sequence[str] = (),
) -> tuple[bool, str]:
    """Whether OpenSSL trusts a sender for signing mail, and what it says."""
    for file, made in (("sender", (sender,)), ("pool", pool), ("anchors", anchors)):
        (folder / f"{file}.pem").write_text(_pem(made))
    command = ["openssl", "verify", "-purpose", "smimesign", "-no-CApath", "-no-CAstore"]
    command += ["-attime", str(int(at.timestamp())), "-CAfile", "anchors.pem", *options]
    command += ["-untrusted", "pool.pem"] if pool else []
    done = subprocess.run([*command, "sender.pem"], cwd=folder, capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.integration  # hundreds of calls of OpenSSL
@pytest.mark.parametrize("title", [title for title, case in CASES.items() if case.openssl is not None])
def test_openssl_agrees(title: str, tmp_path: Path) -> None:
    case = CASES[title]
    accepted, said = openssl_verdict(
        tmp_path, case.sender, case.pool, case.anchors, at=case.at, options=case.options
    )
    assert accepted is case.openssl, said
