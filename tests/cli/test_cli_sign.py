"""``mailsigil sign``, once as a process: what it writes, and what it says and returns when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import bank
from bank import ALICE, BOB, judge, mail
from mailsigil.cli.sign import command
from mailsigil.service import utc_now
from mailsigil.verdict import SmimeWord
from processes import called, mailsigil

OURS = bank.found_bank(bank.PEOPLE[:2], now=utc_now())
PARTS = bank.verification(OURS.trust())


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "alice.pem"
    path.write_bytes(OURS.pem[ALICE])
    return path


def accepted(raw: bytes) -> bool:
    return judge(raw, parts=PARTS, at=utc_now()).word is SmimeWord.PASS


def test_a_file_is_signed_to_standard_output(tmp_path: Path, pem: Path) -> None:
    (tmp_path / "mail.eml").write_bytes(mail())
    done = mailsigil("sign", "--cert", pem, tmp_path / "mail.eml")
    assert (done.returncode, done.stderr) == (0, b"")
    assert accepted(done.stdout)
    assert b"From: Alice Example <alice@bank.example>\r\n" in done.stdout


def test_standard_input_with_bare_line_feeds_and_an_mbox_line(pem: Path) -> None:
    unix = b"From alice Sun Nov 22 02:15:16 2026\n" + mail().replace(b"\r\n", b"\n")
    done = called("sign", "--cert", pem, stdin=unix)
    assert done.returncode == 0
    assert accepted(done.stdout)
    assert b"\n" not in done.stdout.replace(b"\r\n", b"")


def test_key_and_certificate_in_two_files(tmp_path: Path, pem: Path) -> None:
    blocks = pem.read_bytes().partition(b"-----BEGIN CERTIFICATE")
    (tmp_path / "k.pem").write_bytes(blocks[0])
    (tmp_path / "c.pem").write_bytes(blocks[1] + blocks[2])
    done = called("sign", "--cert", tmp_path / "c.pem", "--key", tmp_path / "k.pem", stdin=mail())
    assert accepted(done.stdout)


def test_opaque_by_option(pem: Path) -> None:
    done = called("sign", "--cert", pem, "--form", "opaque", stdin=mail())
    assert b"application/pkcs7-mime; smime-type=signed-data" in done.stdout
    assert accepted(done.stdout)


@pytest.mark.parametrize(
    ("raw", "more", "says"),
    [
        pytest.param(mail(BOB), (), "deferred: ", id="no-certificate-for-the-author"),
        pytest.param(mail(), ("--sender", BOB), "refused: ", id="another-sender"),
        pytest.param(mail(more=b"From: x@y.example\r\n"), (), "refused: ", id="two-from-fields"),
    ],
)
def test_what_cannot_be_signed_is_not_written(
    raw: bytes, more: tuple[str, ...], says: str, pem: Path
) -> None:
    done = called("sign", "--cert", pem, *more, stdin=raw)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().startswith(says)


def test_a_signed_mail_passes_as_it_is_and_says_why(pem: Path) -> None:
    once = called("sign", "--cert", pem, stdin=mail()).stdout
    twice = called("sign", "--cert", pem, stdin=once)
    assert (twice.returncode, twice.stdout) == (0, once)
    assert twice.stderr == b"passed unsigned: already-protected clear-signed\n"


def test_with_a_configuration_the_policy_decides(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text('[default]\nsigning = "never"\n')
    (tmp_path / "m.toml").write_text(
        f'[policy]\nfile = "{tmp_path}/policy.toml"\n[keyd]\nsocket = "{tmp_path}/none.sock"\n'
    )
    done = called("sign", "--config", tmp_path / "m.toml", stdin=mail())
    assert (done.returncode, done.stdout) == (0, mail())
    assert b"policy never (policy.toml:1 default)" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(("--key", "{pem}"), "--key needs --cert beside it", id="key-without-certificate"),
        pytest.param(("--cert", "/nowhere.pem"), "/nowhere.pem", id="no-such-file"),
        pytest.param(("--cert", "{text}"), "note.txt", id="a-file-without-a-key"),
        pytest.param(("--cert", "{pem}", "--sender", "nobody"), "--sender", id="sender-that-is-no-address"),
        pytest.param(("--config", "/nowhere.toml"), "/nowhere.toml", id="no-such-configuration"),
    ],
)
def test_wrong_use_is_told(arguments: tuple[str, ...], says: str, tmp_path: Path, pem: Path) -> None:
    (tmp_path / "note.txt").write_text("no key")
    filled = [argument.format(pem=pem, text=tmp_path / "note.txt") for argument in arguments]
    done = CliRunner().invoke(command, filled, input=mail())
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr
