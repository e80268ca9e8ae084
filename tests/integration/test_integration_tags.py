"""Through Postfix, the milter, LMTP and Sieve: what a reader's mail program shows of a sender."""

from __future__ import annotations

import email
import email.policy
import subprocess
import sys
from collections.abc import Iterator

import pytest

from envelopes import enclosed, person
from integration.tagged_site import ALICE, BOB, CAROL, DORA, INFO, TaggedSite, message, tagged_site
from mailsigil.demo.dovecot import wait_for_mail
from mailsigil.demo.organisation import HOST, PASSWORD
from servers.dovecots import ROOTS, imap

pytestmark = pytest.mark.integration

TEXTS = {
    ALICE: (
        "$Verified_V4",
        "V4 Alice Example, Example Bank, Account Manager, Identity Validated and Trusted",
    ),
    CAROL: ("$Verified_V3", "V3 Example Bank, Identity Validated and Trusted"),
    DORA: ("$Verified_V2", "V2 Dora Muster, Identity Validated"),
    INFO: ("$Verified_V1", "V1 Email Validated, Identity Not Validated"),
}
TAGS = (
    "$Verified_V1",
    "$Verified_V2",
    "$Verified_V3",
    "$Verified_V4",
    "$Verified_None",
    "$Signature_Invalid",
)


@pytest.fixture(scope="module", params=ROOTS)
def site(request: pytest.FixtureRequest) -> Iterator[TaggedSite]:
    bob = person("rsa", address=BOB)
    with tagged_site(root=request.param, add_keys=lambda folder: bob.write(folder, "bob.pem")) as running:
        yield running


class Mailbox:
    """What has arrived so far, as IMAP shows it."""

    def __init__(self, site: TaggedSite) -> None:
        self._site = site
        self._seen = len(site.dovecot.mail(BOB))

    def next(self) -> tuple[set[str], bytes]:
        """The tags of the next mail, and the mail."""
        self._seen += 1
        wait_for_mail(self._site.dovecot, BOB, count=self._seen, timeout=30)
        client = imap(self._site.dovecot, BOB, PASSWORD)
        client.select()
        _, told = client.fetch(str(self._seen), "(FLAGS BODY.PEEK[])")
        assert isinstance(told[0], tuple)
        flags, content = told[0]
        found = {tag for tag in TAGS if tag.encode() in flags}
        for tag in found:
            _, numbers = client.search(None, "KEYWORD", tag)
            assert str(self._seen).encode() in numbers[0].split()
        client.logout()
        return found, content


@pytest.mark.parametrize("author", TEXTS, ids=["V4", "V3", "V2", "V1"])
def test_a_senders_level_is_a_tag(author: str, site: TaggedSite) -> None:
    mailbox = Mailbox(site)
    site.submit(author, subject="Your appointment", text="See you on Friday.\n")
    submitted, signed = mailbox.next()
    # A colleague's mail carries no identity fields: it never went the inbound way.
    assert submitted == set()
    # The same mail, as it comes back from outside.
    body = signed[signed.index(b"\r\nFrom:") + 2 :] if b"\r\nFrom:" in signed else signed
    site.bring(body, mail_from=author)
    tags, content = mailbox.next()
    tag, text = TEXTS[author]
    assert tags == {tag}
    parsed = email.message_from_bytes(content, policy=email.policy.default)
    assert parsed["Verified-Identity-Text"] == text


def test_unsigned_forged_and_altered_mail(site: TaggedSite) -> None:
    mailbox = Mailbox(site)
    plain = message("mallory@elsewhere.example", subject="hello", text="x\n").as_bytes()
    forged = (
        f"Authentication-Results: {HOST}; smime=pass\r\nVerified-Identity: V4; status=trusted; name=x\r\n"
        "Verified-Identity-Text: V4 The President\r\n"
    )
    site.bring(forged.encode() + plain)
    tags, content = mailbox.next()
    assert tags == {"$Verified_None"}
    assert b"President" not in content
    site.submit(ALICE, subject="Your appointment", text="See you on Friday.\n")
    _, signed = mailbox.next()
    site.bring(signed.replace(b"See you on Friday", b"See you on Sunday"), mail_from=ALICE)
    assert mailbox.next()[0] == {"$Signature_Invalid"}


def test_encrypted_mail_of_a_v4_sender(site: TaggedSite) -> None:
    """Alice signs and encrypts to Bob; he reads it, and sees who she is."""
    mailbox = Mailbox(site)
    (pem,) = (path for path in (site.organisation.folder / "keys").iterdir() if "alice" in path.name)
    raw = message(ALICE, subject="Your appointment", text="The code of the vault is 1234.\n").as_bytes()
    command = [sys.executable, "-m", "mailsigil", "sign", "--cert", str(pem)]
    signed = subprocess.run(command, input=raw, capture_output=True, check=True, timeout=60).stdout
    site.bring(enclosed(signed, (person("rsa", address=BOB),), site.folder), mail_from=ALICE)
    tags, content = mailbox.next()
    assert tags == {"$Verified_V4"}
    assert b"The code of the vault is 1234." in content
