"""Postfix rewrites addresses before mailsigil sees the header, never behind its back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.kinds import mail
from integration.mailroom import Mailroom, site, values
from mailsigil.demo.organisation import DOMAIN

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("rewriting")]

ALICE, OLD = f"alice@{DOMAIN}", f"alice.old@{DOMAIN}"
OTHER = f"other@{DOMAIN}"


@pytest.fixture(scope="module")
def rewriting() -> Iterator[Mailroom]:
    """A site whose Postfix writes Alice's new address over her old one, and a stranger's over another."""
    with site() as running:
        maps = f"canonical_maps = inline:{{ {OLD}={ALICE}, {OTHER}=x@y.example }}"
        with (running.postfix.config / "main.cf").open("a") as main:
            main.write(f"{maps}\nlocal_header_rewrite_clients = permit_mynetworks\n")
        running.postfix.reload()
        yield Mailroom(running)


def test_what_is_signed_is_what_arrives(rewriting: Mailroom) -> None:
    sent = rewriting.send(mail(OLD, b"Hello\r\n"), ALICE, mail_from=ALICE).content
    (author,) = values(sent, "From")
    assert ALICE in author
    assert f'address="{ALICE}"' in values(rewriting.bring(sent), "Verified-Identity")[0]


def test_an_identity_is_that_of_the_author_who_arrives(rewriting: Mailroom) -> None:
    signed = rewriting.send(mail(ALICE, b"Hello\r\n"), ALICE).content
    genuine = rewriting.bring(signed)
    assert values(genuine, "Verified-Identity")[0].startswith("V4; ")
    assert ALICE in values(genuine, "From")[0]

    # From an address that Postfix turns into another one.
    (field,) = [line for line in signed.split(b"\r\n") if line.startswith(b"From:")]
    forged = rewriting.bring(signed.replace(field, b"From: " + OTHER.encode()))
    assert "x@y.example" in values(forged, "From")[0]
    assert values(forged, "Verified-Identity")[0].startswith("none; status=mismatch; reason=address")
