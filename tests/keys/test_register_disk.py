"""The embedded authority's register on a disk that is full, and after a crash in the middle of a line."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPCertStatus, OCSPRequestBuilder, load_der_ocsp_response

from keys.employees import ALICE, NOW
from mailsigil.keys import register_file
from mailsigil.keys.authority import Authority, AuthorityError, Issued
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.ocsp_responder import OcspResponder
from mailsigil.keys.profile import KeyKind, Subject
from mailsigil.keys.register import Reason, Register, RegisterError
from mailsigil.keys.sources.embedded import EmbeddedIssuer
from mailsigil.keys.subject import SubjectRequest
from mailsigil.pki.policies import Level

SUBJECT = Subject(level=Level.V1, address=ALICE)
KEY = KeyKind.P256.generate().public_key()
RESERVE = 120
"""Octets that the nearly full disk still takes: less than any record of a certificate."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.init(tmp_path / "ca", organisation="Example Bank", now=NOW)


def certify(authority: Authority) -> x509.Certificate:
    return authority.certify(SUBJECT, key=KEY, now=NOW)


@contextmanager
def room_for(octets: int, path: Path) -> Iterator[None]:
    """Files may grow by so many octets more than ``path`` has: one write is short, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("octets", [0, 1, RESERVE])
def test_a_short_write_hands_nothing_out_and_leaves_no_trace(authority: Authority, octets: int) -> None:
    first, path = certify(authority), authority.register.path
    before = path.read_bytes()
    with room_for(octets, path):
        with pytest.raises(AuthorityError, match=r"cannot be written: File too large\. Lift the limit"):
            certify(authority)
        if octets < 50:
            with pytest.raises(AuthorityError, match=r"cannot be written: File too large\. Lift the limit"):
                authority.withdraw(first.serial_number, reason=Reason.KEY_COMPROMISE, now=NOW)
    assert path.read_bytes() == before
    second = certify(authority)
    authority.revoke(first.serial_number, now=NOW)
    assert {each.serial: each.revocation is None for each in authority.register.entries()} == {
        first.serial_number: False,
        second.serial_number: True,
    }


def test_a_disk_that_fails_to_sync_takes_the_line_back(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    certify(authority)
    before = authority.register.path.read_bytes()

    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(register_file.os, "fsync", refuse)
        with pytest.raises(AuthorityError, match="Input/output error"):
            certify(authority)
    assert authority.register.path.read_bytes() == before


def test_nobody_reads_a_line_that_may_yet_be_taken_back(authority: Authority) -> None:
    certify(authority)
    child = [
        *("flock", "--shared", "--nonblock", "--conflict-exit-code", "9"),
        *(str(authority.register.path), "true"),
    ]
    with register_file.opened(authority.register.path, writing=True):
        assert subprocess.run(child, check=False).returncode == 9
    assert subprocess.run(child, check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
class TestSmallDisk:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[Path]:
        disk = tmp_path / "disk"
        disk.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=128k,mode=0700", "tmpfs", str(disk)], capture_output=True
        )
        if done.returncode:
            pytest.skip(f"no small disk can be mounted: {done.stderr.decode().strip()}")
        try:
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)

    def test_every_certificate_that_was_handed_out_is_in_the_register(self, disk: Path) -> None:
        authority, out = Authority.init(disk / "ca", organisation="Example Bank", now=NOW), disk / "keys"
        handed_out: list[Issued] = []
        refused: list[str] = []
        for number in range(400):
            subject = Subject(level=Level.V1, address=f"p{number}@bank.example")
            try:
                handed_out.append(authority.issue(subject, out=out, now=NOW))
            except AuthorityError as error:
                refused.append(str(error))
                if len(refused) == 3:
                    break
        assert handed_out
        assert [text.partition(": ")[2].partition(" of ")[0] for text in refused] == [
            "No space left on device. Make room on the disk"
        ] * 3
        registered = {entry.serial for entry in authority.register.entries()}
        assert {each.certificate.serial_number for each in handed_out} <= registered
        for line in authority.register.path.read_text().splitlines():
            json.loads(line)
        for each in handed_out:
            assert x509.load_pem_x509_certificate(each.path.read_bytes()) == each.certificate
        assert len(list(out.iterdir())) == len(handed_out)
        # Room is made, and everything goes on.
        shutil.rmtree(out)
        authority.revoke(handed_out[0].certificate.serial_number, now=NOW)
        certify(authority)
        assert Authority.load(disk / "ca").register.cut_lines() == ()


def cut(path: Path, number: int, keep: int) -> None:
    """Leaves of a line what a crash would have."""
    lines = path.read_bytes().splitlines(keepends=True)
    ending = b"\n" if number < len(lines) else b""
    lines[number - 1] = lines[number - 1][:keep] + ending
    path.write_bytes(b"".join(lines))


def ocsp_status(authority: Authority, certificate: x509.Certificate) -> OCSPCertStatus:
    responder = OcspResponder(authority.issuers, authority.register, now=lambda: NOW, keep=timedelta(hours=1))
    request = OCSPRequestBuilder().add_certificate(certificate, authority.issuing, SHA256()).build()
    answer = load_der_ocsp_response(responder.answer(request.public_bytes(Encoding.DER)))
    return answer.certificate_status


@pytest.mark.parametrize("number", [1, 2, 3], ids=["first", "middle", "last"])
def test_a_torn_line_costs_itself_alone(
    authority: Authority, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    made = [certify(authority) for _ in range(3)]
    lost, kept = made.pop(number - 1), made
    cut(authority.register.path, number, 70)
    fresh = Authority.load(authority.directory)
    with caplog.at_level(logging.WARNING, "mailsigil.keys"):
        assert [each.serial for each in fresh.register.entries()] == [one.serial_number for one in kept]
        fresh.revoke(kept[0].serial_number, now=NOW)
        another = certify(fresh)
        assert fresh.certificates_of(ALICE) == (another, kept[1])
    told = [record.message for record in caplog.records]
    assert len(told) == 1
    assert f"index.jsonl: line {number} was cut off while it was written (issued" in told[0]
    assert f"sed -i '{number}{{" in told[0]
    assert ocsp_status(fresh, kept[0]) is OCSPCertStatus.REVOKED
    assert ocsp_status(fresh, another) is OCSPCertStatus.GOOD
    # What was handed out and lost its record is revocable all the same.
    issuer = EmbeddedIssuer("own", authority.directory, now=lambda: NOW)
    issuer.withdraw(lost.public_bytes(Encoding.DER), Reason.KEY_COMPROMISE)
    issuer.publish()
    assert ocsp_status(fresh, lost) is OCSPCertStatus.REVOKED
    crl = x509.load_der_x509_crl((authority.directory / "issuing.crl").read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(lost.serial_number)
    entry = fresh.register.entry(lost.serial_number)
    assert entry is not None
    assert (entry.address, entry.level, entry.not_after) == (ALICE, "V1", lost.not_valid_after_utc)


def test_the_mend_of_a_torn_line_mends_it(authority: Authority) -> None:
    made = [certify(authority) for _ in range(4)]
    for number in (1, 3):
        cut(authority.register.path, number, 40)
    path, found = authority.register.path, authority.register.cut_lines()
    assert [line.number for line in found] == [1, 3]
    for line in (*reversed(found), *found):  # Once too often does no harm.
        subprocess.run(line.mend(path).partition("writes to the file: ")[2], shell=True, check=True)
    assert authority.register.cut_lines() == ()
    assert {each.serial for each in authority.register.entries()} == {
        made[number].serial_number for number in (1, 3)
    }


def test_a_revocation_that_was_cut_off_is_not_so_and_says_how_to_repeat_it(authority: Authority) -> None:
    made = certify(authority)
    authority.revoke(made.serial_number, now=NOW)
    cut(authority.register.path, 2, 80)
    (line,) = authority.register.cut_lines()
    serial = f"{made.serial_number:x}"
    assert (line.number, line.event, line.serial) == (2, "revoked", serial)
    assert f"ca revoke --dir {authority.directory} {serial};" in line.mend(authority.register.path)
    authority.revoke(made.serial_number, now=NOW)
    assert len(authority.register.revoked()) == 1


@pytest.mark.parametrize("address", [ALICE, 'a}{"b\\"@bank.example', "grüße@bank.example"])
def test_a_record_cut_anywhere_is_seen_as_cut(tmp_path: Path, address: str) -> None:
    register = Register(tmp_path / "index")
    register.issued(serial=7, address=address, level="V1", not_after=NOW)
    whole = (tmp_path / "index").read_bytes()
    assert register_file.CutLine.of(1, whole) is None
    for keep in range(1, len(whole) - 1):
        found = register_file.CutLine.of(1, whole[:keep])
        assert found is not None, whole[:keep]
    assert register_file.CutLine.of(1, whole[:30] + bytes(40)) is not None
    assert register_file.CutLine.of(1, bytes(40) + b"\n") is not None


@pytest.mark.parametrize(
    "line",
    [
        "junk",
        '{"event": "revoked", "serial": "1" "at": "2026-06-01T00:00:00+00:00"}',
        '{"event": "revoked", "serial": "1", "at": "2026-06-01T00:00:00"}',
        '{"event": "revoked", "serial": "xyz", "at": "2026-06-01T00:00:00+00:00"}',
        '{"serial": "1"}',
        "[1]",
    ],
)
def test_a_whole_line_that_says_the_impossible_stays_an_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "index").write_text(f"{line}\n")
    with pytest.raises(RegisterError, match=r"index:1 is damaged"):
        Register(tmp_path / "index").entries()


def test_a_record_that_was_removed_is_made_again_for_who_revokes(authority: Authority) -> None:
    request = SubjectRequest(address=ALICE)
    issuer = EmbeddedIssuer("own", authority.directory, now=lambda: NOW)
    der = issuer.enrol(request, NewKey.generate(request, KeyKind.P256))[0]
    authority.register.path.write_bytes(b"")
    issuer.release(der)  # It was never suspended.
    issuer.revoke(der)
    (entry,) = authority.register.entries()
    assert entry.revocation is not None
