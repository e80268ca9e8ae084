from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mailsigil.cli.ca import command


def ca(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


@pytest.fixture
def folder(tmp_path: Path) -> str:
    path = str(tmp_path / "ca")
    assert ca("init", "--dir", path, "--organisation", "Example Bank").exit_code == 0
    return path


def test_from_nothing_to_a_key_file_and_a_crl(folder: str) -> None:
    result = ca(
        *("issue", "--dir", folder, "--level", "V4", "--address", "alice@bank.example"),
        *("--name", "Alice van Example", "--organisation", "Example Bank", "--title", "Manager"),
    )
    assert result.exit_code == 0, result.output
    path = Path(folder) / "keys" / "alice@bank.example.pem"
    assert result.stdout == f"{path}\n"
    assert path.read_text().count("-----BEGIN CERTIFICATE-----") == 2
    assert ca("crl", "--dir", folder).exit_code == 0
    assert (Path(folder) / "issuing.crl").exists()


@pytest.mark.parametrize("key", ["rsa2048", "p384", "ed25519"])
def test_kinds_of_keys(tmp_path: Path, key: str) -> None:
    path = str(tmp_path / "ca")
    assert ca("init", "--dir", path, "--organisation", "Example Bank", "--key", key).exit_code == 0
    out = str(tmp_path / "k")
    issue = ("issue", "--dir", path, "--level", "V1", "--address", "a@b.example", "--key", key, "--out", out)
    assert ca(*issue).exit_code == 0
    assert (tmp_path / "k" / "a@b.example.pem").exists()


V1 = ("--level", "V1", "--address", "a@b.example")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param((*V1, "--name", "A B"), "V1 does not vouch for a given name", id="name with V1"),
        pytest.param(
            ("--level", "V2", "--address", "a@b.example"), 'add --name "Alice Example"', id="no name"
        ),
        pytest.param(
            ("--level", "V2", "--address", "a@b.example", "--name", "A"), "is one word", id="one word"
        ),
        pytest.param(
            ("--level", "V2", "--address", "a@b.example", "--name", "A B", "--surname", "B"),
            "give either --name",
            id="name twice",
        ),
        pytest.param(("--level", "V3", "--address", "a@b.example"), "V3 needs an organisation", id="no org"),
        pytest.param(("--level", "V1", "--address", "nobody"), "is no mail address", id="no address"),
        pytest.param((*V1, "--days", "0"), "from 1 to 1185 days", id="days"),
        pytest.param((*V1, "--key", "dsa"), "'dsa' is not one of", id="unknown key"),
        pytest.param(("--level", "V5", "--address", "a@b.example"), "'V5' is not one of", id="unknown level"),
    ],
)
def test_wrong_use_is_one_sentence(folder: str, arguments: tuple[str, ...], sentence: str) -> None:
    result = ca("issue", "--dir", folder, *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert not (Path(folder) / "keys").exists()


def test_a_certificate_without_a_record_is_revoked_by_its_file(folder: str, tmp_path: Path) -> None:
    issued = ca("issue", "--dir", folder, *V1).stdout.strip()
    (Path(folder) / "index.jsonl").write_text('{"event": "issued", "seri')
    revoked = ca("revoke", "--dir", folder, "--certificate", issued)
    assert (revoked.exit_code, "V1 of a@b.example" in revoked.stdout) == (0, True), revoked.output
    assert "revoked (unspecified)" in ca("list", "--dir", folder).stdout
    (tmp_path / "junk").write_text("junk")
    for arguments, sentence in {
        ("--certificate", str(tmp_path / "junk")): "holds no certificate",
        ("--certificate", f"{folder}/root.pem"): "was not issued by this authority",
        ("4711",): "or give the certificate with --certificate",
        ("4711", "--certificate", issued): "give either SERIAL or --certificate",
        (): "give either SERIAL or --certificate",
    }.items():
        result = ca("revoke", "--dir", folder, *arguments)
        assert (result.exit_code, sentence in result.stderr) == (2, True), result.output


def test_no_authority(tmp_path: Path) -> None:
    result = ca("issue", "--dir", str(tmp_path), *V1)
    assert result.exit_code == 2
    assert f"mailsigil ca init --dir {tmp_path}" in result.stderr


def test_init_twice(folder: str) -> None:
    result = ca("init", "--dir", folder, "--organisation", "Other")
    assert result.exit_code == 2
    assert "holds an authority already" in result.stderr
