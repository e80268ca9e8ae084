"""Forged mails, each a file of ``cases/attacks`` with its reason: no one is given an identity.

Genuine mails stand among them, some of them made by OpenSSL here, so that a verifier that refuses
everything fails.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import bank
from mailsigil.inbound import InboundParts, inbound
from mailsigil.message.fields import named, parse_fields
from mailsigil.message.reader import read_message
from mailsigil.pki.anchors import AnchorSet, TrustStore, load_anchor_file
from mailsigil.pki.policies import Level
from mailsigil.plan import Event
from mailsigil.rewrite import rewritten
from mailsigil.verdict import Reason, SmimeWord, Status
from mailsigil.verification import VerificationParts, verify
from stopwatch import work_of_less_than

FOLDER = Path(__file__).parent / "cases" / "attacks"
TABLE: dict[str, dict[str, str]] = tomllib.loads((FOLDER / "table.toml").read_text())
FORGED = sorted(name for name, case in TABLE.items() if case["reason"])
GENUINE = sorted(set(TABLE) - set(FORGED))
ALICE = "alice@bank.example"


@cache
def parts() -> VerificationParts:
    """A receiver who trusts the one authority of these mails."""
    anchors = AnchorSet(name="x", certificates=tuple(load_anchor_file(FOLDER / "anchor.pem")), level=Level.V1)
    return bank.verification(TrustStore((anchors,)))


def annotated(raw: bytes, damage: str) -> tuple[Event, list[str], str, str]:
    """Event, identity, its text and results after the inbound way."""
    given = InboundParts(
        verification=parts(),
        txt=bank.no_dns,
        now=lambda: bank.NOW,
        authserv_id=bank.HOST,
        dkim_max_bytes=1_000_000,
        dkim_max_signatures=5,
    )
    message = read_message(io.BytesIO(raw))
    plan = inbound(message.fields, message.body, given, damage=damage)
    fields, _ = parse_fields(b"".join(rewritten(message.fields, message.body, plan.edits)))
    identity, text, results = (
        [field.unfolded.decode() for field in named(fields, key)]
        for key in (b"verified-identity", b"verified-identity-text", b"authentication-results")
    )
    (one_text,), (one_result,) = text, results
    return plan.event, identity, one_text, one_result


def test_there_are_many() -> None:
    assert len(FORGED) >= 40
    assert len(GENUINE) >= 5
    assert {path.stem for path in FOLDER.glob("*.eml")} == set(TABLE)


def test_the_files_are_what_the_script_makes() -> None:
    command = [sys.executable, str(FOLDER / "build.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_mail_has_no_identity(name: str) -> None:
    raw = (FOLDER / f"{name}.eml").read_bytes()
    message = read_message(io.BytesIO(raw))
    verdict = verify(message.fields, message.body, parts(), at=bank.NOW, damage=message.damage)
    assert verdict.identity is None
    assert verdict.reason.token == TABLE[name]["reason"], verdict.detail
    assert verdict.word is not SmimeWord.PASS
    assert verdict.status is not Status.TRUSTED
    assert len(verdict.reason.sentence.split()) >= 4, "a reason for a person"

    event, identity, text, results = annotated(raw, message.damage)
    assert event is not Event.VERIFIED
    assert len(identity) == 1
    assert identity[0].startswith("none; ")
    assert f"reason={TABLE[name]['reason']};" in identity[0]
    assert text.startswith(("Identity Not Verified: ", "Not signed"))
    assert "smime=pass" not in results


@pytest.mark.parametrize("name", GENUINE)
def test_a_genuine_mail_has_one(name: str) -> None:
    raw = (FOLDER / f"{name}.eml").read_bytes()
    message = read_message(io.BytesIO(raw))
    verdict = verify(message.fields, message.body, parts(), at=bank.NOW, damage=message.damage)
    assert verdict.identity is not None, (verdict.reason, verdict.detail)
    assert verdict.identity.address.lower() == ALICE
    event, identity, _, results = annotated(raw, message.damage)
    assert event is Event.VERIFIED
    assert identity[0].startswith("V1; status=trusted; ")
    assert "smime=pass" in results


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf-file", "crlf-file"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-sign",), id="clear"),
        pytest.param(("-sign", "-nodetach"), id="opaque"),
        pytest.param(("-sign", "-noattr"), id="no-attributes"),
        pytest.param(("-sign", "-keyid"), id="key-identifier"),
        pytest.param(("-sign", "-md", "sha512"), id="sha512"),
        pytest.param(("-sign", "-nodetach", "-stream"), id="streamed"),
    ],
)
def test_a_mail_by_openssl_has_one(tmp_path: Path, options: tuple[str, ...], end: bytes) -> None:
    now = datetime.now(UTC)
    house = bank.found_bank(now=now)
    pem = tmp_path / "alice.pem"
    pem.write_bytes(house.pem[ALICE])
    text = b"Content-Type: text/plain\r\n\r\nDear Carl,\r\n\r\nsee you on Friday.\r\n"
    certificates = tmp_path / "issuing.pem"
    certificates.write_bytes(house.issuing.public_bytes(Encoding.PEM))
    command = ["openssl", "cms", *options, "-signer", str(pem), "-certfile", str(certificates)]
    command += ["-from", ALICE, "-to", "carl@customer.example", "-subject", "Friday"]
    done = subprocess.run(command, input=text, capture_output=True, check=True)
    raw = done.stdout.replace(b"\r\n", b"\n").replace(b"\n", end)
    message = read_message(io.BytesIO(raw))
    verdict = verify(
        message.fields, message.body, bank.verification(house.trust()), at=now + timedelta(minutes=1)
    )
    assert verdict.reason is Reason.NONE, verdict.detail
    assert verdict.identity is not None


def test_no_case_takes_long() -> None:
    for name in TABLE:
        message = read_message(io.BytesIO((FOLDER / f"{name}.eml").read_bytes()))
        with work_of_less_than(1, name):
            verify(message.fields, message.body, parts(), at=bank.NOW, damage=message.damage)
