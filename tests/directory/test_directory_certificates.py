"""Rules about certificates as administrators write them: in the policy file, and as lines in LDAP."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.config.errors import ConfigError
from mailsigil.directory.certificate_rules import read_lines
from mailsigil.directory.entries import EntryReader
from mailsigil.directory.entry import Entry
from mailsigil.directory.file import FileDirectory
from mailsigil.directory.profiles import OPENLDAP
from mailsigil.policy.certificates import CertificateRule, Otherwise
from mailsigil.policy.model import PolicyEntry
from mailsigil.policy.resolve import resolve

AT = datetime(2026, 11, 22, tzinfo=UTC)
COLLEAGUES = CertificateRule(recipients=("*@bank.example", "*@partner.example"), source="Corporate PKI")
OTHERS = CertificateRule(recipients=("*",), source="public", otherwise=Otherwise.ANY)

FILE = """
[[domain]]
name = "bank.example"
certificates = [
    { recipients = ["*@bank.example", "*@partner.example"], source = "Corporate PKI" },
    { recipients = ["*"], source = "public", otherwise = "any" },
]
domain_signature = true
"""


def _policy(**attributes: list[str]) -> tuple[PolicyEntry, list[str]]:
    """A policy entry of LDAP for the whole domain, and what is said of it."""
    values = {name.lower(): tuple(text.encode() for text in texts) for name, texts in attributes.items()}
    values["mailsigilappliestodomain"] = (b"bank.example",)
    reader = EntryReader(OPENLDAP, frozenset({"bank.example"}), frozenset({"corporate pki", "public"}))
    (rule,), problems = reader.rules(Entry("cn=policy", values))
    return rule.entry, [problem.sentence for problem in problems]


def _file(folder: Path, text: str) -> FileDirectory:
    path = folder / "policy.toml"
    path.write_text(text)
    return FileDirectory.load(path, sources=frozenset({"corporate pki", "public"}))


def test_file_and_directory_mean_the_same(tmp_path: Path) -> None:
    written = resolve(_file(tmp_path, FILE).policies("a@bank.example"))
    entry, problems = _policy(
        # The order of the numbers counts, and not that of the lines.
        mailsigilCertificate=["20 public | any: *", "10 Corporate PKI: *@bank.example, *@partner.example"],
        mailsigilDomainSignature=["TRUE"],
    )
    assert problems == []
    assert written.certificates.value == entry.certificates == (COLLEAGUES, OTHERS)
    assert written.domain_signature.value is entry.domain_signature is True


def test_an_unknown_source_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _file(tmp_path, FILE.replace("Corporate PKI", "corprate"))
    assert str(caught.value) == (
        f'{tmp_path}/policy.toml:5: there is no [[source]] "corprate"; known are "corporate pki", "keyd",'
        ' "public"'
    )


@pytest.mark.parametrize(
    ("lines", "rules", "said"),
    [
        pytest.param(["none"], (), [], id="none leaves the choice open"),
        pytest.param(["NONE"], (), [], id="in any letters"),
        pytest.param(
            ["1 keyd: *"], (CertificateRule(recipients=("*",), source="keyd"),), [], id="the agent's folder"
        ),
        pytest.param(["5 public|ANY:*"], (OTHERS,), [], id="no spaces"),
        pytest.param(["public: *"], (), ["NUMBER SOURCE: PATTERN"], id="no number"),
        pytest.param(["1 public *"], (), ["NUMBER SOURCE: PATTERN"], id="no colon"),
        pytest.param(["1 public | all: *"], (), ["NUMBER SOURCE: PATTERN"], id="another word"),
        pytest.param(["1 public:"], (), ["NUMBER SOURCE: PATTERN"], id="no recipients"),
        pytest.param(["1 public: bank.example"], (), ['write "*@bank.example"'], id="no pattern"),
        pytest.param(["1 public: *@*"], (), ["everybody in the world"], id="everybody is one star"),
        pytest.param(
            ["1 gone: *@bank.example"],
            (CertificateRule(recipients=("*@bank.example",), source="gone"),),
            ['no [[source]] "gone"'],
            id="an unknown source stays, so that its mail waits",
        ),
        pytest.param(
            ["2 Corporate PKI: *@bank.example,*@partner.example", "1 public | any: *"],
            (OTHERS, COLLEAGUES),
            ["never reached"],
            id="behind everybody",
        ),
    ],
)
def test_lines(lines: list[str], rules: tuple[CertificateRule, ...], said: list[str]) -> None:
    entry, problems = _policy(mailsigilCertificate=lines)
    assert entry.certificates == rules
    assert len(problems) == len(said)
    assert all(part in sentence for part, sentence in zip(said, problems, strict=True))


def test_one_number_twice_is_told_and_has_an_order() -> None:
    entry, problems = _policy(mailsigilCertificate=["1 public: *@b.example", "1 keyd: *@b.example"])
    assert [rule.source for rule in entry.certificates or ()] == ["keyd", "public"]
    assert problems == ['two lines have the number 1; "1 keyd: *@b.example" is taken first']


def test_what_is_no_truth_is_false() -> None:
    entry, problems = _policy(mailsigilDomainSignature=["yes"])
    assert entry.domain_signature is False
    assert len(problems) == 1


def test_an_entry_without_rules_leaves_them_to_the_next() -> None:
    entry, _ = _policy()
    assert (entry.certificates, entry.domain_signature) == (None, None)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=80), max_size=5))
def test_whatever_stands_there_is_rules_or_sentences(texts: list[str]) -> None:
    said: list[str] = []
    rules = read_lines(texts, said.append)
    assert len(rules) <= len(texts)
    assert len(rules) + len(said) + sum(text.lower() == "none" for text in texts) >= len(texts)
    assert all(rule.recipients and rule.source for rule in rules)
