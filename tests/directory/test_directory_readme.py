"""The page for administrators shows what works: its snippets are loaded, and are those of the files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailsigil.config.loading import load_settings
from mailsigil.directory.certificate_rules import read_lines
from mailsigil.directory.file import FileDirectory
from mailsigil.directory.opening import source_names
from mailsigil.policy.resolve import resolve

POLICIES = Path(__file__).resolve().parent.parent.parent / "policies"
PAGE = (POLICIES / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


_DIRECTORIES = [block for block in _blocks("toml") if block.startswith("[[directory]]")]
_POLICIES = [block for block in _blocks("toml") if block.startswith("[[domain]]")]
_SOURCES = [block for block in _blocks("toml") if block.startswith("[[source]]")]


@pytest.mark.parametrize("block", _DIRECTORIES)
def test_directory_sections_load(tmp_path: Path, block: str) -> None:
    path = tmp_path / "mailsigil.toml"
    path.write_text(f'{block}policy_base = "ou=mailsigil,dc=bank,dc=example"\n')
    assert load_settings(path).directory[0].domains == ("bank.example",)


def _policy(tmp_path: Path, block: str) -> FileDirectory:
    (tmp_path / "mailsigil.toml").write_text("".join(_SOURCES))
    path = tmp_path / "policy.toml"
    path.write_text(block)
    return FileDirectory.load(path, sources=source_names(load_settings(tmp_path / "mailsigil.toml")))


@pytest.mark.parametrize("block", _POLICIES)
def test_policies_load(tmp_path: Path, block: str) -> None:
    groups = {"cn=traders,ou=groups,dc=bank,dc=example"} if "[[group]]" in block else set()
    entries = _policy(tmp_path, block).entries("bob@bank.example", groups=groups)
    assert [entry.scope.name for entry in entries] == [*["GROUP"][: len(groups)], "DOMAIN", "DEFAULT"]


def test_rules_about_certificates_are_the_same_in_both(tmp_path: Path) -> None:
    (block,) = (block for block in _POLICIES if "certificates = [" in block)
    policy = resolve(_policy(tmp_path, block).policies("alice@bank.example"))
    notes: list[str] = []
    lines = re.findall(r"^mailsigilCertificate: (.+)$", PAGE, re.MULTILINE)
    assert read_lines(reversed(lines), notes.append) == policy.certificates.value
    assert notes == []


def test_the_domain_s_certificate_is_allowed(tmp_path: Path) -> None:
    (block,) = (block for block in _POLICIES if "domain_signature" in block)
    assert resolve(_policy(tmp_path, block).policies("alice@bank.example")).domain_signature.value is True


@pytest.mark.parametrize("block", _blocks("ldif"))
def test_entries_are_those_of_the_example(block: str) -> None:
    assert block in (POLICIES / "openldap-example.ldif").read_text(encoding="utf-8") + "\n"


def test_whose_mail_is_decrypted(tmp_path: Path) -> None:
    (block,) = (block for block in _POLICIES if "decryption" in block)
    directory = _policy(tmp_path, block)
    said = {
        name: resolve(directory.policies(f"{name}@bank.example")).decryption.value for name in ("a", "ceo")
    }
    assert said == {"a": "inert", "ceo": "never"}


def test_there_is_something_to_test() -> None:
    assert (len(_DIRECTORIES), len(_POLICIES), len(_SOURCES), len(_blocks("ldif"))) == (2, 4, 1, 2)


def test_both_schemas_define_the_same() -> None:
    openldap = (POLICIES / "openldap-schema.ldif").read_text(encoding="utf-8")
    active_directory = (POLICIES / "active-directory-schema.ldf").read_text(encoding="utf-8")
    ours = set(re.findall(r"(\.2\.[12]\.\d+) NAME '(\w+)'", openldap))
    theirs = set(
        re.findall(
            r"(?:attributeID|governsID): \S+?(\.2\.[12]\.\d+)\nlDAPDisplayName: (\w+)", active_directory
        )
    )
    assert ours == theirs
    assert len(ours) == 26
    for name in re.findall(r"`(mailsigil[A-Z]\w+)`", PAGE):
        assert f"'{name}'" in openldap
