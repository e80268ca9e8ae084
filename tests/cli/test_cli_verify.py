"""``mailsigil verify``, once as a process: words for people, JSON for programs, and the exit status."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding

import bank
from bank import ALICE, mail, signed
from mailsigil.cli.verify import command
from processes import called, mailsigil
from tampering import author_is

AT = ("--at", "2026-11-22T02:20:00Z")
SIGNED = signed(mail())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root.pem"
    path.write_bytes(bank.bank().root.public_bytes(Encoding.PEM))
    return path


def verdict(root: Path, raw: bytes, *more: str, status: int) -> dict[str, Any]:
    done = called("verify", "--json", "--trust", root, *(more or AT), stdin=raw)
    assert done.returncode == status, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_a_trusted_signature_in_words(root: Path) -> None:
    done = mailsigil("verify", "--trust", root, *AT, stdin=SIGNED)
    assert (done.returncode, done.stderr) == (0, b"")
    first, *details, by, time = done.stdout.decode().splitlines()
    assert first == "pass: V4 Alice Example, Example Bank, Account Manager, Identity Validated and Trusted"
    assert all(detail.startswith("  ") for detail in details)
    assert by == f"signed by: {ALICE}"
    assert time == "signed at: 2026-11-22 02:15:16 UTC, as the signer says"


def test_a_trusted_signature_in_json(root: Path) -> None:
    found = verdict(root, SIGNED, status=0)
    assert (found["result"], found["reason"], found["signers"]) == ("pass", "", [ALICE])
    assert found["identity"] == {
        "level": "V4",
        "name": "Alice Example",
        "org": "Example Bank",
        "title": "Account Manager",
        "address": ALICE,
        "issuer": "Example Bank Mail CA",
    }
    assert found["signed"] == "2026-11-22T02:15:16Z"
    assert found["dkim"] == []


@pytest.mark.parametrize(
    ("raw", "result", "reason"),
    [
        pytest.param(mail(), "none", "unsigned", id="unsigned"),
        pytest.param(SIGNED.replace(b"Friday", b"Monday"), "fail", "digest", id="tampered"),
        pytest.param(author_is("ceo@bank.example")(SIGNED), "policy", "address", id="mismatch"),
        pytest.param(signed(mail(), by=bank.stranger()), "policy", "no-path", id="foreign-authority"),
        pytest.param(b"", "none", "unsigned", id="empty"),
    ],
)
def test_everything_else_is_status_1_with_the_reason(
    raw: bytes, result: str, reason: str, root: Path
) -> None:
    found = verdict(root, raw, status=1)
    assert (found["result"], found["reason"], found["identity"]) == (result, reason, None)


ATTACKS = Path(bank.__file__).parent / "cases" / "attacks"
TABLE: dict[str, dict[str, str]] = tomllib.loads((ATTACKS / "table.toml").read_text())
ONE_OF_EACH = {case["reason"]: name for name, case in TABLE.items() if case["reason"]}


@pytest.mark.parametrize(("reason", "name"), ONE_OF_EACH.items(), ids=ONE_OF_EACH)
def test_every_negative_verdict_has_its_reason_and_a_sentence(reason: str, name: str) -> None:
    arguments = ["--json", "--trust", str(ATTACKS / "anchor.pem"), *AT, str(ATTACKS / f"{name}.eml")]
    done = CliRunner().invoke(command, arguments)
    found = json.loads(done.stdout)
    assert (done.exit_code, found["reason"], found["identity"]) == (1, reason, None)
    assert found["result"] != "pass"
    assert found["explanation"].endswith(".")
    assert found["detail"]


def test_notes_are_told(root: Path) -> None:
    found = verdict(root, b"Reply-To: eve@evil.example\r\n" + SIGNED, status=0)
    sentence = "Replies go to another domain than the author's."
    assert found["notes"] == [{"note": "reply-elsewhere", "detail": sentence}]
    done = called("verify", "--trust", root, *AT, stdin=b"Reply-To: eve@evil.example\r\n" + SIGNED)
    assert f"note: {sentence}" in done.stdout.decode().splitlines()


def test_the_time_can_be_chosen(root: Path) -> None:
    found = verdict(root, SIGNED, "--at", "2029-01-01", status=1)
    assert (found["result"], found["reason"]) == ("fail", "expired")


def test_no_identity_judges_the_signature_alone(root: Path) -> None:
    found = verdict(root, author_is("ceo@bank.example")(SIGNED), *AT, "--no-identity", status=0)
    assert (found["result"], found["identity"], found["signers"]) == ("pass", None, [ALICE])


def test_a_file_with_bare_line_feeds(root: Path, tmp_path: Path) -> None:
    (tmp_path / "saved.eml").write_bytes(SIGNED.replace(b"\r\n", b"\n"))
    done = called("verify", "--trust", root, *AT, tmp_path / "saved.eml")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(("--trust", "{root}", "--at", "soon"), '"soon" is no time', id="no-time"),
        pytest.param(("--trust", "/nowhere.pem"), "/nowhere.pem", id="no-such-anchor"),
        pytest.param(("--trust", "{text}"), "note.txt", id="an-anchor-that-is-none"),
        pytest.param(("--config", "/nowhere.toml"), "/nowhere.toml", id="no-such-configuration"),
        pytest.param(("--trust", "{root}", "/nowhere.eml"), "/nowhere.eml", id="no-such-mail"),
    ],
)
def test_wrong_use_is_status_2(arguments: tuple[str, ...], says: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no certificate")
    filled = [argument.format(root=root, text=tmp_path / "note.txt") for argument in arguments]
    done = CliRunner().invoke(command, filled, input=SIGNED)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr
