"""Revocation with servers that answer, revoke, die, hang and lie: the whole verdict, as configured."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import crl as asn1_crl
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailsigil.config.loading import load_settings
from mailsigil.demo.programs import free_port
from mailsigil.message.reader import read_message
from mailsigil.service import trust_store, verification_parts
from mailsigil.verdict import Reason, SmimeWord, Status, Verdict
from mailsigil.verification import verify
from pki import pki_make as make
from pki import publisher as pub
from pki.pki_make import Made
from servers.ocsp_responder import key_pem, pem, publishing, responding, write_index

pytestmark = pytest.mark.integration
HOUR = timedelta(hours=1)
MAIL = (
    b"From: alice@bank.example\r\nTo: carl@x.example\r\nSubject: Hello\r\nMIME-Version: 1.0\r\n\r\nHello.\r\n"
)


@dataclass
class City:
    """An authority, a sender, a signed mail, and where the authority publishes."""

    folder: Path
    ocsp_port: int = field(default_factory=free_port)
    web_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        now = datetime.now(UTC)
        days = ((now - make.NOW).days - 30, (now - make.NOW).days + 300)
        self.days = days
        self.root = make.root(days=days)
        self.responder = pub.responder(self.root, days=days)
        places = (
            pub.ocsp_at(f"http://127.0.0.1:{self.ocsp_port}/"),
            pub.crl_at(f"http://127.0.0.1:{self.web_port}/root.crl"),
        )
        self.alice = make.leaf(self.root, *places, days=days)
        (self.folder / "root.pem").write_bytes(pem(self.root))
        (self.folder / "web").mkdir()
        self.index()
        self.mail = self._signed()

    def _signed(self) -> Path:
        (self.folder / "alice.pem").write_bytes(key_pem(self.alice) + pem(self.alice))
        path = self.folder / "signed.eml"
        command = ["sign", "--sender", "alice@bank.example", "--cert", str(self.folder / "alice.pem")]
        done = subprocess.run(
            [sys.executable, "-m", "mailsigil", *command], input=MAIL, capture_output=True, check=True
        )
        path.write_bytes(done.stdout)
        return path

    def index(self, *revoked: Made) -> None:
        (self.folder / "ocsp").mkdir(exist_ok=True)
        valid = () if revoked else (self.alice,)
        write_index(self.folder / "ocsp" / "index.txt", valid, revoked)

    def publish(self, *revoked: Made, **given: Any) -> None:
        this = datetime.now(UTC).replace(microsecond=0) - HOUR
        data = pub.crl(given.pop("by", self.root), *revoked, **({"this": this, "since": this} | given))
        (self.folder / "web" / "root.crl").write_bytes(data)

    def config(self, mode: str, **more: object) -> Path:
        path = self.folder / f"{mode}.toml"
        given: dict[str, object] = {"allow_private_addresses": True, "patience": 2.0, "timeout": 3.0} | more
        given.setdefault("cache_folder", str(self.folder / "cache"))
        lines = [f"{key} = {json.dumps(value)}" for key, value in given.items()]
        trust = f'[[trust]]\nname = "Bank"\nfiles = ["{self.folder / "root.pem"}"]\nrevocation = "{mode}"\n'
        path.write_text("[revocation]\n" + "\n".join(lines) + f"\n\n{trust}")
        return path

    def command(self, mode: str, **more: object) -> dict[str, Any]:
        """What ``mailsigil verify`` says, each time a process of its own."""
        command = ["verify", "--json", "--config", str(self.config(mode, **more)), str(self.mail)]
        done = subprocess.run([sys.executable, "-m", "mailsigil", *command], capture_output=True)
        found: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 0) is (found["result"] == "pass")
        return found

    def desk(self, mode: str, **more: object) -> Desk:
        settings = load_settings(self.config(mode, **more))
        return Desk(self, verification_parts(settings, trust_store(settings)))


@dataclass
class Desk:
    """One process that takes mail after mail, as a worker does."""

    city: City
    parts: Any

    def judge(self) -> Verdict:
        with self.city.mail.open("rb") as file:
            message = read_message(file)
        return verify(message.fields, message.body, self.parts, at=datetime.now(UTC))


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City(tmp_path)


@pytest.mark.parametrize("who", ["issuer", "responder"])
def test_openssl_answers_and_revokes(city: City, who: str) -> None:
    signer = city.root if who == "issuer" else city.responder
    with responding(city.folder / "ocsp", city.ocsp_port, city.root, signer):
        assert city.command("require")["result"] == "pass"
    city.index(city.alice)  # the responder reads it when it starts
    with responding(city.folder / "ocsp", city.ocsp_port, city.root, signer):
        assert city.command("require")["result"] == "pass"  # kept until the next update
        found = city.command("require", cache_folder="")
        assert (found["result"], found["status"], found["reason"]) == ("fail", "invalid", "revoked")
        assert "was revoked on" in found["detail"]
        assert found["identity"] is None
        assert city.command("prefer", cache_folder="")["result"] == "fail"
        assert city.command("off", cache_folder="")["result"] == "pass"


def test_a_dead_responder(city: City) -> None:
    with responding(city.folder / "ocsp", city.ocsp_port, city.root, city.root):
        assert city.command("require")["result"] == "pass"
    assert city.command("require")["result"] == "pass"  # from the folder
    found = city.command("require", cache_folder="")
    assert (found["result"], found["status"]) == ("temperror", "unchecked")
    assert found["reason"] == "revocation-unknown"
    assert "cannot be reached" in found["detail"]
    found = city.command("prefer", cache_folder="")
    assert (found["result"], found["identity"]["level"]) == ("pass", "V1")
    assert found["detail"].startswith("revocation is not known: ")
    assert city.command("off", cache_folder="")["detail"] == ""


def test_a_responder_that_was_revoked_itself(city: City) -> None:
    """Its certificate names a list of its own (RFC 6960 4.2.2.2.1)."""
    url = f"http://127.0.0.1:{city.web_port}/responders.crl"
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
    signer = pub.responder(city.root, usage, pub.crl_at(url), days=city.days)
    this = datetime.now(UTC).replace(microsecond=0) - HOUR
    listing = city.folder / "web" / "responders.crl"
    with (
        responding(city.folder / "ocsp", city.ocsp_port, city.root, signer),
        publishing(city.folder / "web", city.web_port) as asked,
    ):
        listing.write_bytes(pub.crl(city.root, this=this))
        assert city.command("require", cache_folder="")["result"] == "pass"
        assert asked == ["/responders.crl"]
        listing.write_bytes(pub.crl(city.root, signer, this=this, since=this))
        found = city.command("require", cache_folder="")
        assert (found["result"], found["reason"]) == ("temperror", "revocation-unknown")
        assert "the OCSP responder that answers was itself revoked" in found["detail"]
        assert city.command("prefer", cache_folder="")["result"] == "pass"


def test_a_list_steps_in_for_a_dead_responder(city: City) -> None:
    with publishing(city.folder / "web", city.web_port) as asked:
        city.publish()
        assert city.command("require", cache_folder="")["result"] == "pass"
        city.publish(city.alice)
        assert city.command("require", cache_folder="")["reason"] == "revoked"
        assert asked == ["/root.crl", "/root.crl"]


LIES = {
    "signed by another": {"by": make.root()},
    "stale": {"this": datetime.now(UTC) - timedelta(days=30)},
    "of tomorrow": {"this": datetime.now(UTC) + timedelta(days=1)},
}


@pytest.mark.parametrize("lie", LIES)
def test_lists_that_lie(city: City, lie: str) -> None:
    with publishing(city.folder / "web", city.web_port):
        city.publish(**LIES[lie])
        assert city.command("require")["result"] == "temperror"
        assert city.command("prefer")["result"] == "pass"


@pytest.mark.parametrize("spoil", ["truncated", "huge", "html", "empty", "absent"])
def test_documents_that_are_none(city: City, spoil: str) -> None:
    city.publish()
    file = city.folder / "web" / "root.crl"
    data = file.read_bytes()
    file.write_bytes(
        {"truncated": data[:-20], "huge": data + bytes(3_000_000), "html": b"<html>"}.get(spoil, b"")
    )
    if spoil == "absent":
        file.unlink()
    with publishing(city.folder / "web", city.web_port):
        assert city.command("require", max_bytes=1_000_000)["result"] == "temperror"


def test_nothing_private_is_fetched_by_default(city: City) -> None:
    with publishing(city.folder / "web", city.web_port) as asked:
        city.publish()
        found = city.command("require", allow_private_addresses=False)
        assert found["result"] == "temperror"
        assert "is not public" in found["detail"]
        assert asked == []


@contextmanager
def _hanging(port: int) -> Iterator[None]:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen(50)
        yield


def test_a_hanging_responder_costs_one_mail_its_bound_and_the_next_nothing(city: City) -> None:
    desk = city.desk("require", patience=1.0, timeout=2.0)
    with _hanging(city.ocsp_port), _hanging(city.web_port):
        start = time.monotonic()
        first = desk.judge()
        waited = time.monotonic() - start
        assert (first.word, first.status) == (SmimeWord.TEMPERROR, Status.UNCHECKED)
        assert first.reason is Reason.REVOCATION_UNKNOWN
        assert 0.9 < waited < 1.5
        start = time.monotonic()
        for _ in range(20):
            assert desk.judge().word is SmimeWord.TEMPERROR
        assert time.monotonic() - start < 1.0
    desk = city.desk("prefer", patience=0.0)
    with _hanging(city.ocsp_port):
        start = time.monotonic()
        assert desk.judge().identity is not None
        assert time.monotonic() - start < 0.5


def test_a_mail_that_did_not_wait_leaves_the_answer_for_the_next(city: City) -> None:
    desk = city.desk("require", patience=0.0)
    with responding(city.folder / "ocsp", city.ocsp_port, city.root, city.root):
        assert desk.judge().word is SmimeWord.TEMPERROR
        end = time.monotonic() + 5
        while desk.judge().word is not SmimeWord.PASS:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_a_warm_verdict_is_not_slower(city: City) -> None:
    with responding(city.folder / "ocsp", city.ocsp_port, city.root, city.root):
        desks = {mode: city.desk(mode) for mode in ("off", "require")}
        work: dict[str, list[float]] = {mode: [] for mode in desks}
        for desk in desks.values():
            desk.judge()
        # In turns, and the best of each: something else may be at work on this machine meanwhile.
        for _ in range(10):
            for mode, desk in desks.items():
                start = time.thread_time()
                for _ in range(20):
                    assert desk.judge().word is SmimeWord.PASS
                work[mode].append(time.thread_time() - start)
    assert min(work["require"]) < min(work["off"]) * 1.3


def test_evidence_in_the_mail_alone(city: City) -> None:
    """OpenSSL puts lists beside the signature; nobody is asked then."""
    folder, this = city.folder, datetime.now(UTC).replace(microsecond=0) - HOUR
    for name, revoked in (("good", ()), ("revoked", (city.alice,))):
        (folder / f"{name}.crl").write_bytes(pub.crl(city.root, *revoked, this=this, since=this))
        city.mail = folder / f"{name}.eml"
        _sign_with_list(city, folder / f"{name}.crl")
        found = city.command("require", fetch=False, cache_folder="")
        assert found["result"] == ("pass" if name == "good" else "fail")
        trusted = [sys.executable, "-m", "mailsigil", "verify", "--trust", str(folder / "root.pem")]
        assert subprocess.run([*trusted, str(city.mail)], capture_output=True).returncode == (name != "good")


def _sign_with_list(city: City, crl: Path) -> None:
    """``openssl cms`` puts in no lists, so asn1crypto does: they are outside of what is signed."""
    command = ["openssl", "cms", "-sign", "-signer", "alice.pem", "-inkey", "alice.pem", "-md", "sha256"]
    der = subprocess.run(
        [*command, "-nodetach", "-outform", "DER", "-binary"],
        input=b"Content-Type: text/plain\r\n\r\nHello.\r\n",
        cwd=city.folder,
        capture_output=True,
        check=True,
    ).stdout
    content = asn1_cms.ContentInfo.load(der)
    content["content"]["crls"] = [asn1_crl.CertificateList.load(crl.read_bytes())]
    head = b"From: alice@bank.example\r\nMIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; "
    head += b"smime-type=signed-data\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    city.mail.write_bytes(head + base64.encodebytes(content.dump(force=True)).replace(b"\n", b"\r\n"))
