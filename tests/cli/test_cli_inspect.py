from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.cli.inspect import command, inspect_certificate
from mailsigil.keys.authority import Authority
from mailsigil.keys.profile import Subject
from mailsigil.pki.policies import Level


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    now = datetime.now(UTC)
    subject = Subject(
        level=Level.V4,
        address="alice@bank.example",
        given_name="Alice",
        surname="Example",
        organisation="Example Bank",
        title="Account Manager",
    )
    authority = Authority.init(tmp_path / "ca", organisation="Example Bank", now=now)
    return authority.issue(subject, out=tmp_path / "keys", now=now).path


def test_json(key_file: Path) -> None:
    result = CliRunner().invoke(command, ["--json", str(key_file)])
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert shown["level"] == shown["names_fit"] == "V4"
    assert shown["generation"] is None
    assert shown["name"] == "Alice Example"
    assert shown["org"] == "Example Bank"
    assert shown["title"] == "Account Manager"
    assert shown["addresses"] == ["alice@bank.example"]
    assert shown["issuer"] == "Example Bank Mail CA"
    assert shown["key"] == "EC secp256r1"
    assert shown["warnings"] == []


@pytest.mark.parametrize("from_stdin", [False, True])
def test_der_and_standard_input(key_file: Path, tmp_path: Path, from_stdin: bool) -> None:
    der = x509.load_pem_x509_certificate(key_file.read_bytes()).public_bytes(Encoding.DER)
    (tmp_path / "cert.der").write_bytes(der)
    arguments = ["-"] if from_stdin else [str(tmp_path / "cert.der")]
    result = CliRunner().invoke(command, arguments, input=der if from_stdin else None)
    assert result.exit_code == 0
    assert "V4 Alice Example, Example Bank, Account Manager, Identity Validated and Trusted" in result.stdout
    assert "Warning" not in result.stdout


def test_an_authority_and_an_expired_certificate_get_warnings(key_file: Path) -> None:
    leaf, issuing = x509.load_pem_x509_certificates(key_file.read_bytes())
    late = inspect_certificate(leaf, now=datetime(2099, 1, 1, tzinfo=UTC))
    assert late.warnings == ("the certificate has expired",)
    early = inspect_certificate(leaf, now=datetime(2000, 1, 1, tzinfo=UTC))
    assert early.warnings == ("the certificate is not valid yet",)
    authority = inspect_certificate(issuing, now=datetime.now(UTC))
    assert "the certificate is an authority's, not a sender's" in authority.warnings
    assert "the certificate has no mail address" in authority.warnings


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"0" * 2_000_000])
def test_no_certificate(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    result = CliRunner().invoke(command, [str(path)])
    assert result.exit_code == 2
    assert f"{path} holds no readable certificate" in result.stderr
