"""Tags: what Verified-Identity says becomes keywords, on each Dovecot, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mailsigil.demo.dovecot import Dovecot, wait_for_mail
from servers.dovecots import BOB, PASSWORD, ROOTS, deliver, imap
from servers.sieve import compile_scripts, open_folder, sieve_dovecot

HOST = "mx.test.example"
RESULTS = f"Authentication-Results: {HOST}; smime=pass;\r\n dkim=none\r\n"
TEXT = "Verified-Identity-Text: V4 Alice Example, Example Bank\r\n"

TAGS = {
    'V4; status=trusted; name="Alice Example";\r\n org="Example Bank"': "$Verified_V4",
    "V3; status=trusted; org=X": "$Verified_V3",
    "V2; status=trusted;\r\n name=X": "$Verified_V2",
    "V1; status=trusted; address=x": "$Verified_V1",
    "none; status=unsigned; reason=unsigned; dkim=none": "$Verified_None",
    "none; status=invalid; reason=digest": "$Signature_Invalid",
    "none; status=untrusted; reason=no-path": "$Signature_Untrusted",
    "none; status=mismatch; reason=address": "$Signature_Mismatch",
    "none; status=unchecked; reason=encrypted": "$Signature_Unchecked",
}
IDENTITY = f"Verified-Identity: {next(iter(TAGS))}\r\n"
UNTAGGED = {
    "no-field": RESULTS + TEXT,
    "no-results": IDENTITY + TEXT,
    "no-text": RESULTS + IDENTITY,
    "results-of-another": RESULTS.replace(HOST, "mx.evil.example") + IDENTITY + TEXT,
    "results-of-another-on-top": RESULTS.replace(HOST, "mx.evil.example") + RESULTS + IDENTITY + TEXT,
    "results-of-a-longer-name": RESULTS.replace(HOST, HOST + ".evil.example") + IDENTITY + TEXT,
    "results-without-smime": RESULTS.replace("smime=pass", "dkim=pass") + IDENTITY + TEXT,
    "two-identities": RESULTS + IDENTITY + IDENTITY.replace("V4", "V1") + TEXT,
    "two-texts": RESULTS + IDENTITY + TEXT + TEXT,
    "an-unknown-level": RESULTS + IDENTITY.replace("V4", "V5") + TEXT,
    "a-level-without-trust": RESULTS + IDENTITY.replace("trusted", "invalid") + TEXT,
    "trust-of-nobody": RESULTS + IDENTITY.replace("V4", "none") + TEXT,
    "a-level-within": RESULTS + IDENTITY.replace("V4", "x V4") + TEXT,
    "in-the-body": "\r\n" + RESULTS + IDENTITY + TEXT,
}
ALL = frozenset((*TAGS.values(), "$Decryption_Failed", "$Decryption_Withheld", "$Decryption_Unavailable"))


@pytest.fixture(scope="module", params=ROOTS)
def dovecot(request: pytest.FixtureRequest) -> Iterator[Dovecot]:
    users = {BOB: PASSWORD, **{f"{number}@bank.example": PASSWORD for number in range(100)}}
    with open_folder() as folder, sieve_dovecot(folder, users, host=HOST, root=request.param) as running:
        compile_scripts(running)
        yield running


_numbers = iter(range(100))


def tags_of(dovecot: Dovecot, head: str) -> tuple[set[str], Any]:
    """The tags of a mail that came with these fields, and a client that looks at it."""
    user = f"{next(_numbers)}@bank.example"
    mail = f"{head}From: alice@bank.example\r\nSubject: x\r\n\r\nbody\r\n"
    deliver(dovecot, mail.encode(), to=user)
    wait_for_mail(dovecot, user)
    client = imap(dovecot, user)
    client.select()
    _, told = client.fetch("1", "(FLAGS)")
    assert isinstance(told[0], bytes)
    return {tag for tag in ALL if tag.encode() in told[0]}, client


@pytest.mark.integration
@pytest.mark.parametrize("value", TAGS, ids=lambda value: TAGS[value])
def test_each_identity_has_its_tag(value: str, dovecot: Dovecot) -> None:
    found, client = tags_of(dovecot, f"{RESULTS}Verified-Identity: {value}\r\n{TEXT}")
    assert found == {TAGS[value]}
    for tag in ALL:
        status, numbers = client.search(None, "KEYWORD", tag)
        assert (status, numbers) == ("OK", [b"1" if tag == TAGS[value] else b""])
    client.logout()


@pytest.mark.integration
@pytest.mark.parametrize("name", UNTAGGED)
def test_what_the_milter_did_not_write_gets_no_tag(name: str, dovecot: Dovecot) -> None:
    found, client = tags_of(dovecot, UNTAGGED[name])
    client.logout()
    assert found == set()


@pytest.mark.integration
def test_a_users_own_script_keeps_the_tags(dovecot: Dovecot) -> None:
    client = imap(dovecot)
    client.create("Lists")
    client.logout()
    home = dovecot.folder / "mail" / BOB
    script = home / ".dovecot.sieve"
    script.write_text('require "fileinto";\nfileinto "Lists";\n')
    deliver(dovecot, f"{RESULTS}{IDENTITY}{TEXT}From: a@b.example\r\n\r\nx\r\n".encode())
    wait_for_mail(dovecot, BOB)
    client = imap(dovecot)
    client.select("Lists")
    assert client.search(None, "KEYWORD", "$Verified_V4") == ("OK", [b"1"])
    client.logout()


@pytest.mark.integration
def test_a_users_own_script_may_not_ask_for_decryption(dovecot: Dovecot) -> None:
    """Else he could have mail opened that is not his."""
    user = f"{next(_numbers)}@bank.example"
    deliver(dovecot, b"From: a@b.example\r\n\r\none\r\n", to=user)
    wait_for_mail(dovecot, user)
    script = dovecot.folder / "mail" / user / ".dovecot.sieve"
    script.write_text('require "vnd.dovecot.filter";\nif filter "mailsigil-decrypt" {}\n')
    deliver(dovecot, b"From: a@b.example\r\n\r\ntwo\r\n", to=user)
    wait_for_mail(dovecot, user, count=2)
    log = script.with_name(".dovecot.sieve.log")
    assert "vnd.dovecot.filter" in log.read_text()
