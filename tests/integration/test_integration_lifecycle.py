"""From an entry in LDAP to the certificate on a mail that passed Postfix: nobody touches a key in between.

slapd, Postfix, `mailsigil run` and the embedded authority are real; openssl looks at what arrives outside.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from integration.lifecycle_house import LifecycleHouse, lifecycle_house
from mailsigil.cli.keys import list_certificates
from mailsigil.cli.usage import command as usage
from mailsigil.keys.authority import Authority

pytestmark = [
    pytest.mark.integration,
    pytest.mark.xdist_group("lifecycle"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a private Postfix is started by root"),
    pytest.mark.skipif(not Path("/usr/sbin/postfix").exists(), reason="Postfix is not installed"),
    pytest.mark.skipif(not shutil.which("slapd", path="/usr/sbin"), reason="slapd is not installed"),
]
LATER = datetime(2038, 12, 31, tzinfo=UTC)


@pytest.fixture(scope="module")
def house() -> Iterator[LifecycleHouse]:
    with lifecycle_house() as running:
        yield running


def _values(house: LifecycleHouse, command: object, *arguments: str) -> object:
    done = CliRunner().invoke(command, ["--config", str(house.config), "--json", *arguments])  # type: ignore[arg-type]
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_who_was_just_added_signs_and_says_more_once_validated(house: LifecycleHouse) -> None:
    assert list(house.keys.glob("*")) == []
    alice = house.personnel.hire("alice", "Alice", "Example", title="Clerk")
    # Nothing else happened: the first mail brings the certificate about.
    first = house.signed(alice)
    assert first.level == "V3"
    assert first.subject["O"] == "Example Bank"
    assert "Alice" not in str(first.subject)
    assert "nothing is to be done" in house.sync()
    house.personnel.validate("alice")
    assert "1 reissue" in house.sync()
    second = house.signed(alice, until=lambda signed: signed.level == "V4")
    assert second.level == "V4"
    assert (second.subject["GN"], second.subject["SN"], second.subject["title"]) == (
        "Alice",
        "Example",
        "Clerk",
    )
    assert second.subject["O"] == "Example Bank"
    # A title changes.
    house.personnel.change("alice", "replace: title\ntitle: Account Manager")
    assert "title: Clerk → Account Manager" in " ".join(house.sync().split())
    third = house.signed(alice, until=lambda signed: signed.subject.get("title") == "Account Manager")
    assert len({first.serial, second.serial, third.serial}) == 3
    # The ones before stay good for a while: mail that is on its way holds.
    assert not house.is_revoked(second)
    assert list(house.keys.glob("*")) == []


def test_who_leaves_signs_no_more(house: LifecycleHouse) -> None:
    bob = house.personnel.hire("bob", "Bob", "Sample")
    sent = house.signed(bob)
    house.personnel.dismiss("bob")
    assert "revoke" in house.sync()
    assert house.is_revoked(sent)
    assert house.refused(bob) in (450, 451, 550, 553)
    found = _values(house, list_certificates, "--address", bob, "--status", "revoked")
    assert isinstance(found, list)
    assert [one["serial"] for one in found] == [sent.serial]


def test_the_organisation_lapses_and_is_renewed(house: LifecycleHouse) -> None:
    carol = house.personnel.hire("carol", "Carol", "Third", title="Director")
    house.personnel.validate("carol")
    house.sync()
    before = house.signed(carol)
    assert before.level == "V4"
    house.personnel.organisation_until(datetime.now(UTC) - timedelta(days=1))
    # It stops at once, before anybody looked after certificates: no mail leaves with what is not vouched for.
    assert house.refused(carol) in (450, 451, 550)
    assert "hold" in house.sync()
    assert house.is_revoked(before)
    between = house.signed(carol)
    assert between.level == "V2"
    assert "O" not in between.subject
    # The organisation is back, and so is she: with the same certificate, and without new validation.
    house.personnel.organisation_until(LATER)
    assert "release" in house.sync()
    after = house.signed(carol, until=lambda signed: signed.level == "V4")
    assert (after.level, after.serial) == ("V4", before.serial)
    assert not house.is_revoked(after)


def test_renewed_before_its_end(house: LifecycleHouse) -> None:
    dave = house.personnel.hire("dave", "Dave", "Fourth")
    house.personnel.validate("dave")
    house.sync_in_the_past(dave, days=350)
    old = house.signed(dave)
    assert old.certificate.not_valid_after_utc < datetime.now(UTC) + timedelta(days=30)
    assert "renew" in house.sync()
    new = house.signed(dave, until=lambda signed: signed.serial != old.serial)
    assert new.subject == old.subject
    assert new.certificate.public_key() != old.certificate.public_key()
    assert new.certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=300)
    # Mail that is on its way, or lies in mailboxes, stays good.
    assert not house.is_revoked(old)


def test_the_database_and_the_authority_agree(house: LifecycleHouse) -> None:
    """After all of that: what was issued is known, each once, and what was revoked is revoked."""
    known = _values(
        house,
        list_certificates,
        *(part for status in ("issued", "superseded", "held", "revoked") for part in ("--status", status)),
    )
    assert isinstance(known, list)
    entries = Authority.load(house.ca).register.entries()
    assert sorted(one["serial"] for one in known) == sorted(f"{entry.serial:x}" for entry in entries)
    revoked = {f"{entry.serial:x}" for entry in entries if entry.revocation is not None}
    assert revoked == {one["serial"] for one in known if one["status"] in ("revoked", "held")}
    assert len({one["address"] for one in known if one["status"] == "issued"}) == sum(
        one["status"] == "issued" for one in known
    )


def test_each_mail_was_counted_once(house: LifecycleHouse) -> None:
    erin = house.personnel.hire("erin", "Erin", "Fifth")
    for _ in range(3):
        house.signed(erin)
    deadline = time.monotonic() + 30
    while (counted := _counted(house)) != dict(house.sent):
        assert time.monotonic() < deadline, (counted, house.sent)
        time.sleep(0.3)


def _counted(house: LifecycleHouse) -> dict[str, int]:
    values = _values(house, usage)
    assert isinstance(values, dict)
    return {one["address"]: one["signatures"] for one in values["senders"]}
