"""What `mailsigil check` says about decryption at delivery."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from mailsigil.config.delivery import DeliverySettings
from mailsigil.config.settings import KeydSettings, Settings
from mailsigil.config.surroundings import remarks
from mailsigil.demo.dovecot import Dovecot
from mailsigil.dovecot.delivery_review import review_delivery
from mailsigil.dovecot.doveconf import parse
from servers.dovecots import BOB, PASSWORD, ROOTS
from servers.sieve import open_folder, sieve_dovecot

GOOD = {
    "2.3": "# 2.3.19.1 (x): /etc/dovecot/dovecot.conf\nplugin {\n"
    "  sieve_global_extensions = +vnd.dovecot.filter +editheader\n"
    "  sieve_filter_exec_timeout = 20s\n}\nprotocol lmtp {\n  mail_plugins = sieve\n}\n",
    "2.4": "# 2.4.1 (x): /etc/dovecot/dovecot.conf\nsieve_filter_exec_timeout = 20s\n"
    "sieve_global_extensions {\n  vnd.dovecot.filter = yes\n  editheader = yes\n}\nprotocol lmtp {\n"
    "  mail_plugins {\n    sieve = yes\n  }\n}\n",
}


def _found(text: str, **settings: float) -> list[tuple[str, str]]:
    return [(r.severity.value, r.subject) for r in review_delivery(parse(text), DeliverySettings(**settings))]


@pytest.mark.parametrize("version", GOOD)
def test_a_good_configuration(version: str) -> None:
    assert _found(GOOD[version]) == []


@pytest.mark.parametrize("version", GOOD)
@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("sieve_global_extensions", "sieve_extensions", ("error", "sieve_extensions")),
        ("vnd.dovecot.filter", "vnd.dovecot.pipe", ("error", "sieve_global_extensions")),
        ("editheader", "mboxmetadata", ("error", "sieve_global_extensions")),
        ("sieve_filter_exec_timeout = 20s", "", ("warning", "sieve_filter_exec_timeout")),
        ("20s", "5s", ("warning", "sieve_filter_exec_timeout")),
    ],
    ids=["for-users", "not-there", "not-the-other", "default-time", "short-time"],
)
def test_what_is_wrong(version: str, old: str, new: str, finding: tuple[str, str]) -> None:
    assert finding in _found(GOOD[version].replace(old, new), seconds=12)


def test_without_sieve() -> None:
    assert ("error", "protocol lmtp") in _found(GOOD["2.3"].replace("mail_plugins = sieve", ""))
    assert ("error", "protocol lmtp") in _found(GOOD["2.4"].replace("sieve = yes", "sieve = no"))


@pytest.mark.integration
@pytest.mark.parametrize("root", ROOTS)
def test_the_configuration_of_contrib_is_good(root: Path | None) -> None:
    with open_folder() as folder:
        dovecot: Dovecot = sieve_dovecot(folder, {BOB: PASSWORD}, host="mx.test.example", root=root)
        dovecot.write()
        assert _found(dovecot.doveconf("-n").decode()) == []


@pytest.mark.parametrize(
    ("name", "uid", "shell", "warned"),
    [
        ("vmail", 5000, "/usr/sbin/nologin", False),
        ("vmail", 5000, "/bin/false", False),
        ("eve", 1001, "/bin/bash", True),
        ("mallory", 1002, "", True),  # passwd(5): none is /bin/sh.
        ("root", 0, "/bin/bash", False),
    ],
)
def test_nobody_logs_in_as_who_may_have_all_mail_opened(
    name: str, uid: int, shell: str, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = pwd.struct_passwd((name, "x", uid, uid, "", "/", shell))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: account)
    delivery = DeliverySettings(domains=("bank.example",), allowed_users=(name,))
    found = [
        each for each in remarks(Settings(delivery=delivery)) if each.subject == "delivery.allowed_users"
    ]
    assert ["everybody's mail" in each.sentence for each in found] == [True] * warned


def test_users_and_choices() -> None:
    def told(**delivery: object) -> list[tuple[str, str]]:
        settings = Settings(
            delivery=DeliverySettings(
                **{"domains": ("bank.example",), "allowed_users": ("root",), **delivery}
            ),  # type: ignore[arg-type]
            keyd=KeydSettings(user="root"),
        )
        found = remarks(settings)
        return [(r.severity.value, r.subject) for r in found if r.subject.startswith("delivery")]

    assert told(user="nobody") == []
    assert told(user="nobody", allowed_users=("no-such-user",)) == [("error", "delivery.allowed_users")]
    assert told(user="no-such-user") == [("error", "delivery.user")]
    assert told(user="root") == [("warning", "delivery.user")]
    assert told(user="nobody", unauthenticated="any") == [("warning", "delivery.unauthenticated")]
    assert told(user="no-such-user", domains=()) == []
