"""``mailsigil annotate``, once as a process: a message with its identity fields."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import bank
from bank import mail, signed
from processes import called, mailsigil

AT = ("--at", "2026-11-22T02:20:00Z")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "root.pem").write_bytes(bank.bank().root.public_bytes(Encoding.PEM))
    path = tmp_path / "m.toml"
    path.write_text(
        f'[inbound]\nauthserv_id = "{bank.HOST}"\n[[trust]]\nname = "bank"\n'
        f'files = ["{tmp_path}/root.pem"]\nasserts = ["mailsigil"]\n'
    )
    return path


def test_the_three_fields_are_on_top_and_forged_ones_are_gone(config: Path) -> None:
    forged = (
        b"Verified-Identity: V4; status=trusted\r\nAuthentication-Results: mx.bank.example; smime=pass\r\n"
    )
    raw = signed(mail())
    done = mailsigil("annotate", "--config", config, *AT, stdin=forged + raw)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"Authentication-Results: mx.bank.example; smime=pass")
    assert done.stdout.endswith(b"Identity Validated and Trusted\r\n" + raw)
    assert done.stdout.count(b"Verified-Identity:") == 1


def test_unsigned_mail_is_annotated_as_well(config: Path) -> None:
    done = called("annotate", "--config", config, stdin=mail())
    assert done.returncode == 0
    assert b"Verified-Identity: none; status=unsigned; reason=unsigned; dkim=none\r\n" in done.stdout
    assert done.stdout.endswith(b"Verified-Identity-Text: Not signed\r\n" + mail())


def test_trust_on_the_command_line(config: Path) -> None:
    done = called("annotate", "--trust", config.parent / "root.pem", *AT, stdin=signed(mail()))
    assert done.returncode == 0
    assert b"Verified-Identity: V4; status=trusted;" in done.stdout


def test_octets_that_are_no_text_stay(config: Path) -> None:
    raw = mail(more=b"X-Odd: \xff\xfe\x80\r\n", body=b"caf\xe9\r\n")
    done = called("annotate", "--config", config, stdin=raw)
    assert done.returncode == 0
    assert done.stdout.endswith(raw)


def test_a_wrong_configuration_is_status_2_and_writes_nothing(config: Path) -> None:
    config.write_text('[inbound]\nauthserv = "x"\n')
    done = called("annotate", "--config", config, stdin=mail())
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"m.toml:2" in done.stderr
