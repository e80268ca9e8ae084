"""Requests that a person decides: 202 until then, and then exactly what was asked."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailsigil.ca import approvals
from mailsigil.ca.approvals import Approvals, Full, State, Waiting
from mailsigil.ca.est import PREFIX, EstApplication
from mailsigil.ca.logins import Logins
from mailsigil.ca.passwords import Passwords
from mailsigil.ca.web import Request, Response
from mailsigil.cli.ca import command
from mailsigil.keys.authority import Authority
from mailsigil.keys.authority_files import AuthorityError
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.profile import KeyKind, Subject
from mailsigil.keys.subject import SubjectRequest
from mailsigil.pki.policies import Level

SECRET = b"correct-horse-battery"
SETTINGS = """
[est]
server_keygen = "p256"
retry_seconds = 120
[[enrol]]
user = "keyd"
addresses = ["*@bank.example"]
levels = ["V1"]
approval = "required"
[[enrol]]
user = "free"
addresses = ["*@bank.example"]
"""


class House:
    """An authority whose rule wants approval."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.at = datetime.now(UTC).replace(microsecond=0)
        folder.mkdir(mode=0o700)
        (folder / "ca.toml").write_text(SETTINGS)
        self.authority = Authority.init(folder, organisation="Example Bank", now=self.at)
        passwords = Passwords(folder / "passwords")
        for user in ("keyd", "free"):
            passwords.set(user, SECRET)
        self.queue = Approvals(folder, now=lambda: self.at)
        logins = Logins(passwords, most_failures=100)
        self._est = EstApplication(self.authority, logins, self.queue, now=lambda: self.at)

    def ask(
        self, new: NewKey, operation: str = "simpleenroll", *, user: str = "keyd", **more: object
    ) -> Response:
        pair = base64.b64encode(user.encode() + b":" + SECRET).decode()
        headers = {"content-type": "application/pkcs10", "authorization": f"Basic {pair}"}
        body = base64.b64encode(new.csr)
        fields = {"method": "POST", "path": f"{PREFIX}/{operation}", "headers": headers, "body": body}
        return self._est(Request(**{**fields, "peer": "192.0.2.1", **more}))  # type: ignore[arg-type]

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(
            command, ["pending", arguments[0], "--dir", str(self.folder), *arguments[1:]]
        )

    @property
    def issued(self) -> int:
        return len(self.authority.register.entries())


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "ca")


def key(address: str = "alice@bank.example") -> NewKey:
    return NewKey.generate(SubjectRequest(address=address), KeyKind.P256)


def test_approved_it_is_issued_once(house: House) -> None:
    new = key()
    for _ in range(3):
        answer = house.ask(new)
        assert (answer.status, answer.headers["Retry-After"]) == (202, "120")
    (one,) = house.queue.entries()
    assert one.identifier.encode() in answer.body
    listed = house.run("list")
    assert listed.output.startswith(f"{one.identifier}  ")
    assert "keyd  V1  alice@bank.example  waiting" in listed.output
    done = house.run("approve", one.identifier)
    assert done.output == f"{one.identifier}: approved, V1 for alice@bank.example\n"
    assert house.issued == 0
    assert house.ask(new).status == 200
    assert house.issued == 1
    assert house.queue.entries() == []
    # The approval was for that one: the next waits again.
    assert house.ask(new).status == 202


@pytest.mark.parametrize("operation", ["simpleenroll", "serverkeygen"])
def test_who_asks_several_times_at_once_gets_one(
    operation: str, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = key()
    house.ask(new, operation)
    house.run("approve", house.queue.entries()[0].identifier)
    certify, together = house.authority.certify, threading.Barrier(2)

    def slow(*given: object, **more: object) -> object:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.5)
        return certify(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(house.authority, "certify", slow)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: house.ask(new, operation).status, range(2)))
    assert (sorted(answers), house.issued) == ([200, 202], 1)


def test_an_approval_is_for_nothing_else(house: House) -> None:
    new = key()
    house.ask(new)
    (one,) = house.queue.entries()
    house.run("approve", one.identifier)
    assert house.ask(key()).status == 202  # Another key.
    other = NewKey(SubjectRequest(address="ceo@bank.example"), new.private_key())
    assert house.ask(other).status == 202  # Another person with the same key.
    assert house.issued == 0


def test_an_approval_is_for_no_other_request_of_the_same_name(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is a cut hash: who makes billions of requests finds two that share one."""
    monkeypatch.setattr(approvals, "_identifier", lambda one: "0123456789abcdef")
    new = key()
    house.ask(new)
    house.run("approve", "0123456789abcdef")
    other = NewKey(SubjectRequest(address="ceo@bank.example"), new.private_key())
    assert house.ask(other).status == 503
    assert house.issued == 0
    assert house.ask(new).status == 200


def test_a_refusal_is_told_and_stays(house: House) -> None:
    new = key()
    house.ask(new)
    (one,) = house.queue.entries()
    assert house.run("refuse", one.identifier, "--reason", "Alice has left").exit_code == 0
    for _ in range(2):
        answer = house.ask(new)
        assert (answer.status, b"Alice has left" in answer.body) == (403, True)
    rows = json.loads(house.run("list", "--json").output)
    assert [(row["state"], row["reason"]) for row in rows] == [("refused", "Alice has left")]
    # It is decided, and cannot be decided again.
    done = house.run("approve", one.identifier)
    assert (done.exit_code, "is refused already" in done.output) == (2, True)
    # After a month the client may ask anew.
    house.at += approvals.KEPT + timedelta(seconds=1)
    assert house.queue.entries() == []
    assert house.ask(new).status == 202


def test_a_key_that_the_server_makes_waits_as_well(house: House) -> None:
    new = key()
    assert house.ask(new, "serverkeygen").status == 202
    (one,) = house.queue.entries()
    assert one.key == ""
    house.run("approve", one.identifier)
    assert house.ask(new, "simpleenroll").status == 202
    assert house.ask(new, "serverkeygen").status == 200
    assert house.issued == 1


def test_who_needs_no_approval_waits_for_nobody(house: House) -> None:
    assert house.ask(key(), user="free").status == 200
    assert house.queue.entries() == []


def test_a_renewal_with_the_certificate_needs_none(house: House) -> None:
    old = key()
    subject = Subject(level=Level.V1, address="alice@bank.example")
    public = x509.load_der_x509_csr(old.csr).public_key()
    certificate = house.authority.certify(subject, key=public, now=house.at)  # type: ignore[arg-type]
    new = key()
    body = base64.b64encode(new.csr_like(certificate))
    headers = {"content-type": "application/pkcs10"}
    answer = house.ask(new, "simplereenroll", certificate=certificate, body=body, headers=headers)
    assert answer.status == 200


@pytest.mark.parametrize("identifier", ["0123456789abcdef", "../ca", "", "x" * 500])
def test_an_identifier_that_nobody_has(house: House, identifier: str) -> None:
    done = house.run("approve", identifier)
    assert (done.exit_code, "no request" in done.output) == (2, True)


def test_the_queue_has_an_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approvals, "MOST_OF_USER", 3)
    for number in range(3):
        assert house.ask(key(f"p{number}@bank.example")).status == 202
    answer = house.ask(key("p3@bank.example"))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "3600")
    subject = Subject(level=Level.V1, address="x@bank.example")
    with pytest.raises(Full):
        house.queue.decision(user="keyd", subject=subject, spki=b"x", peer="")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps).map(str.encode)
)
def test_a_damaged_file_is_told(house: House, content: bytes) -> None:
    path = house.folder / "pending" / "0123456789abcdef.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(AuthorityError, match="is damaged; remove it"):
        house.queue.entries()
    path.unlink()


def test_a_file_that_says_something_else_than_its_name(house: House) -> None:
    """Who could exchange contents would have one person's approval count for another."""
    house.ask(key())
    (one,) = house.queue.entries()
    path = house.folder / "pending" / f"{one.identifier}.json"
    path.write_text(path.read_text().replace("alice@", "ceo@"))
    with pytest.raises(AuthorityError, match="is damaged"):
        house.queue.entries()
    assert isinstance(one, Waiting)
    assert one.state is State.WAITING
