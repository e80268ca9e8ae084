"""Every kind of message, signed with every kind of key, through Postfix to a server without 8BITMIME.

What arrives is judged by people who did not write this: three S/MIME verifiers, dkimpy, and Python's email
package, which has to see the same parts before and after.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from asn1crypto import cms
from cryptography import x509

from integration.kinds import KINDS, message
from integration.mailroom import Mailroom, header_fields, signed_parts, site
from mailsigil.cms.algorithms import Scheme
from mailsigil.demo.organisation import Employee
from mailsigil.demo.programs import run
from mailsigil.keys.profile import KeyKind, Subject
from mailsigil.pki.policies import Level
from mime_trees import tree
from servers.verifiers import TOOLS, Verifiers, expect_acceptance

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("signing-site")]

SCHEMES = {
    "rsa2048": Scheme.RSA_PKCS1_SHA256,
    "p256": Scheme.ECDSA_SHA256,
    "p384": Scheme.ECDSA_SHA384,
    "ed25519": Scheme.ED25519,
    "rsa-pss": Scheme.RSA_PSS_SHA256,
    "opaque": Scheme.ECDSA_SHA256,
}
"""By sender: the scheme of the signature."""

Travel = Callable[[str, str], tuple[bytes, bytes]]

POLICY = '[[domain]]\nname = "bank.example"\nsigning = "required"\n' + "".join(
    f'[[person]]\naddress = "{sender}@bank.example"\nform = "{form}"\n'
    for sender, form in ((sender, "opaque" if sender == "opaque" else "clear") for sender in SCHEMES)
)


def _employee(sender: str) -> Employee:
    kind = KeyKind(sender) if sender in set(KeyKind) else KeyKind.P256
    return Employee(Subject(level=Level.V1, address=f"{sender}@bank.example"), sender, kind)


@pytest.fixture(scope="module")
def mailroom() -> Iterator[Mailroom]:
    employees = [_employee(sender) for sender in SCHEMES if sender != "rsa-pss"]
    options = {"commands": ("keyd", "milter"), "logins": ("rsa-pss@bank.example",), "policy": POLICY}
    with site(employees=employees, eight_bit_sink=False, **options) as running:
        _issue_pss(running.organisation.folder)
        running.services["keyd"].process.send_signal(signal.SIGHUP)
        room = Mailroom(running)
        room.wait_for(lambda: f"{len(SCHEMES)} keys" in room.log(), "all keys")
        yield room


def _issue_pss(folder: Path) -> None:
    """A certificate whose key may sign by PSS alone, which the embedded authority does not issue."""
    key, request, certificate = (folder / name for name in ("pss.key", "pss.csr", "pss.crt"))
    run(["openssl", "genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key])
    run(["openssl", "req", "-new", "-key", key, "-subj", "/CN=pss", "-out", request])
    (folder / "pss.ext").write_text(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        "extendedKeyUsage=emailProtection\nsubjectAltName=email:rsa-pss@bank.example\n"
        "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )
    issuer = ["-CA", folder / "ca" / "issuing.pem", "-CAkey", folder / "ca" / "issuing.key"]
    signing = ["openssl", "x509", "-req", "-in", request, *issuer, "-days", "30", "-sha256"]
    run([*signing, "-extfile", folder / "pss.ext", "-out", certificate])
    issuing = (folder / "ca" / "issuing.pem").read_bytes()
    path = folder / "keys" / "pss.pem"
    path.touch(mode=0o600)
    path.write_bytes(key.read_bytes() + certificate.read_bytes() + issuing)


@pytest.fixture(scope="module")
def travel(mailroom: Mailroom) -> Travel:
    """Gives a message as it was sent and as it arrived."""

    @cache
    def sent(kind: str, sender: str) -> tuple[bytes, bytes]:
        address = f"{sender}@bank.example"
        before = message(kind, address)
        return before, mailroom.send(before, address).content

    return sent


@pytest.fixture(scope="module")
def verifiers(mailroom: Mailroom) -> Iterator[Verifiers]:
    root = x509.load_pem_x509_certificate(mailroom.site.organisation.anchor.read_bytes())
    with Verifiers(root) as all_tools:
        yield all_tools


EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
EVERY_SENDER = pytest.mark.parametrize("sender", SCHEMES)


@EVERY_KIND
@EVERY_SENDER
@pytest.mark.parametrize("tool", TOOLS)
def test_other_verifiers_accept(
    tool: str, sender: str, kind: str, travel: Travel, verifiers: Verifiers
) -> None:
    signature, content = signed_parts(travel(kind, sender)[1])
    answer = verifiers[tool](signature, content)
    if (tool, sender) == ("nss", "rsa-pss") and "signer0.status=BadSignature" in answer:
        pytest.skip("NSS says the same of OpenSSL's signatures by a key that is restricted to PSS")
    expect_acceptance(tool, SCHEMES[sender], answer)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_verifiers_are_awake(tool: str, travel: Travel, verifiers: Verifiers) -> None:
    """One that accepts everything would prove nothing above."""
    signature, content = signed_parts(travel("plain-ascii", "p256")[1])
    assert content is not None
    assert verifiers[tool](signature, content.replace(b"Friday", b"Monday")) != ""


@EVERY_KIND
@EVERY_SENDER
def test_no_part_is_lost_or_changed(sender: str, kind: str, travel: Travel) -> None:
    before, after = travel(kind, sender)
    assert tree(_signed_entity(after)) == tree(before)


@EVERY_KIND
@EVERY_SENDER
def test_other_header_fields_keep_bytes_and_order(sender: str, kind: str, travel: Travel) -> None:
    before, after = travel(kind, sender)
    kept = _beside_content(after)
    while kept[0].startswith((b"Received:", b"DKIM-Signature:")):
        del kept[0]
    assert kept == _beside_content(before)


@EVERY_KIND
@EVERY_SENDER
def test_what_leaves_is_seven_bit_in_lines_that_no_relay_wraps(
    sender: str, kind: str, travel: Travel
) -> None:
    body = travel(kind, sender)[1].partition(b"\r\n\r\n")[2]
    assert body.isascii()
    assert max(map(len, body.split(b"\r\n"))) <= 998


@EVERY_KIND
@EVERY_SENDER
def test_dkim_of_the_signer_behind_holds(sender: str, kind: str, travel: Travel, mailroom: Mailroom) -> None:
    assert mailroom.dkim_holds(travel(kind, sender)[1])


@EVERY_KIND
def test_outlook_gets_one_mime_version(kind: str, travel: Travel) -> None:
    after = travel(kind, "p256")[1]
    assert [f for f in header_fields(after) if f.lower().startswith(b"mime-version:")] == [
        b"MIME-Version: 1.0"
    ]


@EVERY_KIND
def test_header_fields_that_are_written_fold_with_spaces(kind: str, travel: Travel) -> None:
    (written,) = (f for f in header_fields(travel(kind, "p256")[1]) if f.startswith(b"Content-Type:"))
    assert b"\t" not in written
    assert b"\r\n " in written


def _beside_content(content: bytes) -> list[bytes]:
    own = (b"content-", b"mime-version:")
    return [field for field in header_fields(content) if not field.lower().startswith(own)]


def _signed_entity(content: bytes) -> bytes:
    signature, signed = signed_parts(content)
    if signed is not None:
        return signed
    inside = cms.ContentInfo.load(signature)["content"]["encap_content_info"]["content"].native
    assert isinstance(inside, bytes)
    return inside
