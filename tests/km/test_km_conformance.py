"""``mailsigil km test``: an honest source passes, and each lie is told with its mend."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from keys.employees import ISSUING, new_key
from mailsigil.ca.requests import CertificationRequest
from mailsigil.ca.web import Response
from mailsigil.cli.km import command
from mailsigil.config.settings import Settings
from mailsigil.config.sources import EmbeddedSource, EstSource, FolderSource, SourceSettings
from mailsigil.config.trust import TrustSettings
from mailsigil.keys.authority import Authority
from mailsigil.keys.profile import Subject
from mailsigil.km.conformance import Conformance
from mailsigil.km.report import Conclusion, Outcome, Report
from mailsigil.pki.policies import Level
from mailsigil.service import trust_store, utc_now
from servers.lying_est import LyingEst, answer, bag, certificate, issued

TEST = "mailsigil-test@bank.example"
BEGIN = datetime.now(UTC).replace(microsecond=0)


def run(source: SourceSettings, *, settings: Settings | None = None, address: str = TEST) -> Report:
    settings = settings or Settings()
    return Conformance(source, address, settings=settings, trust=trust_store(settings), now=utc_now).run()


def outcomes(report: Report) -> dict[str, Outcome]:
    return {line.operation: line.outcome for line in report.lines if line.outcome is not Outcome.NOTE}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.init(tmp_path / "ca", organisation="Example Bank", now=BEGIN)


def embedded(folder: Path) -> SourceSettings:
    return SourceSettings(
        name="own", kind="embedded", domains=("bank.example",), embedded=EmbeddedSource(folder=str(folder))
    )


def trusting(folder: Path) -> Settings:
    anchor = TrustSettings(name="own", files=(str(folder / "root.pem"),), asserts=("mailsigil",))
    return Settings(trust=(anchor,))


def test_the_embedded_authority_passes_and_is_left_clean(authority: Authority) -> None:
    report = run(embedded(authority.directory), settings=trusting(authority.directory))
    assert report.passed, report.text()
    assert outcomes(report) == dict.fromkeys(
        ("enrol", "certificate", "sign", "verify", "re-enrol", "revoke"), Outcome.PASSED
    )
    assert "V1 of mailsigil-test@bank.example" in report.text()
    # What was issued for the test is revoked again.
    entries = authority.register.entries()
    assert len(entries) == 2
    assert all(entry.revocation for entry in entries)


def test_nobody_vouches_for_it(authority: Authority) -> None:
    report = run(embedded(authority.directory))
    assert report.passed
    note = next(line for line in report.lines if line.operation == "verify" and line.outcome is Outcome.NOTE)
    assert "no authority of [[trust]]" in note.detail
    assert "mailsigil trust add" in note.mend


def test_an_authority_that_is_not_there(tmp_path: Path) -> None:
    report = run(embedded(tmp_path / "none"))
    assert not report.passed
    assert outcomes(report)["enrol"] is Outcome.FAILED
    assert outcomes(report)["sign"] is Outcome.SKIPPED
    assert "there is no authority" in report.text()


def test_a_folder(authority: Authority, tmp_path: Path) -> None:
    source = SourceSettings(
        name="files", kind="folder", domains=("bank.example",), folder=FolderSource(path=str(tmp_path / "k"))
    )
    subject = Subject(level=Level.V3, address="office@bank.example", organisation="Example Bank")
    authority.issue(subject, out=tmp_path / "k", now=BEGIN)
    report = run(source, settings=trusting(authority.directory), address="office@bank.example")
    assert report.passed, report.text()
    report = run(source, settings=trusting(authority.directory))
    assert not report.passed
    assert "--address" in report.lines[0].mend


Lie = Callable[[CertificationRequest], Response]


def lie(**profile: object) -> Lie:
    return lambda request: answer(bag(issued(request, **{"addresses": (TEST,), **profile})))


LIES: dict[str, tuple[Lie, str]] = {
    "another key": (
        lambda _: answer(bag(certificate(new_key(), addresses=(TEST,), begin=BEGIN))),
        "for another key",
    ),
    "another person": (lie(addresses=("eve@bank.example",)), "another person's: it names eve@"),
    "expired": (lie(begin=BEGIN - timedelta(days=400)), "expired on"),
    "not yet valid": (lie(begin=BEGIN + timedelta(days=2)), "not valid before"),
    "without emailProtection": (lie(purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,)), "lacks emailProtection"),
    "an authority's": (lie(ca=True), "an authority's"),
    "no signatures": (lie(may_sign=False), "does not allow signatures"),
    "no address": (lie(addresses=()), "names no mail address"),
    "cut off": (
        lambda request: answer(bag(issued(request, addresses=(TEST,)))[:300]),
        "cut off or damaged",
    ),
    "HTML": (
        lambda _: answer(b"<!DOCTYPE html><html><body>Please log in</body></html>", "text/html"),
        "HTML instead of a certificate",
    ),
    "nothing": (lambda _: answer(b""), "empty"),
    "the authority's alone": (lambda _: answer(bag(ISSUING)), "for another key"),
    "failure": (lambda _: Response.say(HTTPStatus.INTERNAL_SERVER_ERROR, "Out of paper"), "500"),
    "refusal": (lambda _: Response.say(HTTPStatus.FORBIDDEN, "No"), "refuses the login (403)"),
}


def est(server: LyingEst, timeout: float = 2.0) -> SourceSettings:
    return SourceSettings(
        name="bank KM",
        kind="est",
        domains=("bank.example",),
        timeout=timeout,
        est=EstSource(url=server.url, ca_file=str(server.ca_file)),
    )


@pytest.mark.parametrize("name", LIES)
def test_each_lie_is_told(tmp_path: Path, name: str) -> None:
    lying, sentence = LIES[name]
    with LyingEst(tmp_path, lying) as server:
        report = run(est(server))
    assert not report.passed
    found = {line.operation: line for line in report.lines}
    assert found["cacerts"].outcome is Outcome.PASSED
    assert found["enrol"].outcome is Outcome.FAILED
    assert sentence in found["enrol"].detail
    assert len(found["enrol"].mend) > 10
    assert found["re-enrol"].outcome is Outcome.SKIPPED


def test_a_request_that_waits_for_approval_is_no_failure(tmp_path: Path) -> None:
    answers = 0
    keys = set()

    def later(request: CertificationRequest) -> Response:
        nonlocal answers
        answers += 1
        keys.add(_spki(request))
        if answers in (1, 2, 4):
            return Response.say(HTTPStatus.ACCEPTED, "Wait", Retry_After="3")
        return lie()(request)

    with LyingEst(tmp_path, later) as server:
        report = run(est(server))
        assert report.conclusion is Conclusion.PENDING
        assert not report.passed
        found = outcomes(report)
        assert (found["enrol"], found["sign"]) == (Outcome.PENDING, Outcome.SKIPPED)
        line = next(line for line in report.lines if line.operation == "enrol")
        assert "ask again in 3 s" in line.detail
        assert "--wait" in line.mend
        assert "a decision is pending" in report.text()
        assert report.json()["conclusion"] == "pending"
        # With patience it asks again, for the same key, and goes on.
        answers = 1
        keys.clear()
        pauses: list[float] = []
        patient = Conformance(
            est(server),
            TEST,
            settings=Settings(),
            trust=trust_store(Settings()),
            now=utc_now,
            patience=60,
            sleep=pauses.append,
        ).run()
    assert patient.passed, patient.text()
    assert pauses == [3.0, 3.0]
    assert len(keys) == 2  # One that was enrolled, and its successor.


def _spki(request: CertificationRequest) -> bytes:
    return request.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("seconds", [0.9, 60], ids=["slow", "never"])
def test_who_keeps_us_waiting(tmp_path: Path, seconds: float) -> None:
    def stalling(request: CertificationRequest) -> Response:
        server.stall(seconds)
        return lie()(request)

    with LyingEst(tmp_path, stalling) as server:
        report = run(est(server, timeout=0.6))
    assert outcomes(report)["enrol"] is Outcome.FAILED
    assert "answer" in next(line.detail for line in report.lines if line.operation == "enrol")


def test_an_honest_est_server(tmp_path: Path) -> None:
    with LyingEst(tmp_path, lie()) as server:
        report = run(est(server))
    assert report.passed, report.text()
    assert outcomes(report)["revoke"] is Outcome.NOT_OFFERED
    assert any(line.outcome is Outcome.NOTE and "revocation" in line.detail for line in report.lines)


def test_wishes_that_cannot_be_read_are_told_and_in_nobodys_way(tmp_path: Path) -> None:
    with LyingEst(tmp_path, lie(), wishes=b"\x30\x05\x06") as server:
        report = run(est(server))
    found = outcomes(report)
    assert (found["csrattrs"], found["enrol"]) == (Outcome.FAILED, Outcome.PASSED)
    assert not report.passed
    (line,) = [line for line in report.lines if line.operation == "csrattrs"]
    assert "cannot be read" in line.detail


def test_the_renewal_gives_the_old_one_again(tmp_path: Path) -> None:
    first: list[bytes] = []

    def repeating(request: CertificationRequest) -> Response:
        first.append(lie()(request).body)
        return answer(first[0])

    with LyingEst(tmp_path, repeating) as server:
        report = run(est(server))
    assert outcomes(report)["enrol"] is Outcome.PASSED
    assert outcomes(report)["re-enrol"] is Outcome.FAILED


def test_the_command(authority: Authority, tmp_path: Path) -> None:
    config = tmp_path / "mailsigil.toml"
    config.write_text(
        f'[[source]]\nname = "own"\nkind = "embedded"\ndomains = ["bank.example"]\n'
        f'[source.embedded]\nfolder = "{authority.directory}"\n'
    )
    done = CliRunner().invoke(command, ["test", "own", "--config", str(config), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    assert (report["source"], report["address"], report["passed"]) == ("own", TEST, True)
    for arguments in (["other"], ["own", "--address", "a@elsewhere.example"], ["own", "--address", "x"]):
        assert CliRunner().invoke(command, ["test", *arguments, "--config", str(config)]).exit_code == 2
    (authority.directory / "issuing.key").chmod(0o644)
    done = CliRunner().invoke(command, ["test", "own", "--config", str(config)])
    assert done.exit_code == 1
    assert "chmod 600" in done.output
