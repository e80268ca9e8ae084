"""The way of an encrypted message at delivery: what is opened, what is said of it, and what stays closed."""

from __future__ import annotations

import base64
import re
import subprocess
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from bank import ALICE, HOST, bank, cut, signed
from bank import mail as plain_mail
from dovecot.opening import Keys, parts
from envelopes import BOB, ENTITY, encrypt, mail, person
from mailsigil.cms.content import CipherKind
from mailsigil.delivery import Delivered, Delivery, Unauthenticated, deliver
from mailsigil.message.fields import parse_fields

HTML = b"Content-Type: text/html\r\n\r\n<p>The code of the vault is 1234.</p>\r\n"


def delivered(
    raw: bytes, keys: Keys, *, addresses: tuple[str, ...] = (BOB,), sender: str = ALICE, **more: object
) -> Delivery:
    return deliver(*cut(raw), addresses, parts(keys, **more), sender=sender)


def text_of(delivery: Delivery) -> bytes:
    return b"".join(delivery.chunks())


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path, person("rsa"), person("p256"))


def signed_entity(**form: str) -> bytes:
    """What a signed message is made of, without the fields of the whole."""
    raw = signed(plain_mail(), **form)
    return (
        b"".join(f.raw for f in parse_fields(raw)[0] if f.key.startswith(b"content-"))
        + b"\r\n"
        + cut_body(raw)
    )


def cut_body(raw: bytes) -> bytes:
    return raw[parse_fields(raw)[1] :]


def envelope(entity: bytes, folder: Path, **more: object) -> bytes:
    given = {"cipher": "-aes-256-gcm", **more}
    recipients = given.pop("recipients", (person("rsa"),))
    return mail(encrypt(entity, recipients, folder, **given), author=f"Alice Example <{ALICE}>")  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["clear", "opaque"])
@pytest.mark.parametrize("cipher", ["-aes-256-gcm", "-aes-128-cbc"])
def test_the_signature_inside_names_the_sender(form: str, cipher: str, keys: Keys, tmp_path: Path) -> None:
    entity = signed_entity(form=form)
    delivery = delivered(envelope(entity, tmp_path, cipher=cipher), keys)
    assert (delivery.outcome, delivery.reason) == (Delivered.DECRYPTED, f"aes-{cipher[-3:]}")
    raw = text_of(delivery)
    assert b"\r\nVerified-Identity: V4;" in b"\r\n" + raw
    assert raw.endswith(entity.partition(b"\r\n\r\n")[2])
    whole = message_from_bytes(raw)
    assert whole.get_content_type() == ("multipart/signed" if form == "clear" else "application/pkcs7-mime")
    assert whole.get_all("Subject") == ["Your appointment"]
    assert len(whole.get_all("Content-Type", [])) == len(whole.get_all("MIME-Version", [])) == 1
    assert "enveloped-data" not in raw.decode("latin-1")
    assert "smime.p7m" not in whole.get("Content-Disposition", "") or form == "opaque"


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_unsigned_text_gets_no_identity(kind: str, keys: Keys, tmp_path: Path) -> None:
    delivery = delivered(envelope(ENTITY, tmp_path, recipients=(person(kind),), cipher="-aes-128-cbc"), keys)
    whole = message_from_bytes(text_of(delivery))
    assert whole["Verified-Identity"].startswith("none; status=unsigned")
    assert whole.get_payload() == "The code of the vault is 1234.\r\n"
    assert whole.get_content_charset() == "us-ascii"


def test_identity_never_comes_from_outside_of_the_envelope(keys: Keys, tmp_path: Path) -> None:
    forged = (
        b"Verified-Identity: V4; status=trusted\r\nVerified-Identity-Text: V4 The President\r\n"
        + b"Authentication-Results: %b; smime=pass\r\n" % HOST.encode()
    )
    delivery = delivered(forged + envelope(forged + ENTITY, tmp_path), keys)
    raw = text_of(delivery)
    assert b"President" not in raw
    assert re.findall(rb"smime=(\w+)", raw) == [b"none"]
    assert len(message_from_bytes(raw).get_all("Verified-Identity", [])) == 1


@pytest.mark.parametrize("stray", [b"\n", b"\r", b"\0"], ids=["LF", "CR", "NUL"])
@pytest.mark.parametrize("cipher", ["-aes-256-gcm", "-aes-128-cbc"])
def test_no_field_inside_brings_others_along(cipher: str, stray: bytes, keys: Keys, tmp_path: Path) -> None:
    forged = stray + b"Verified-Identity: V4; status=trusted" + stray + b"Verified-Identity-Text: V4 Boss"
    entity = ENTITY.replace(b"\r\n\r\n", b"\r\nContent-Description: x" + forged + b"\r\n\r\n", 1)
    delivery = delivered(envelope(entity, tmp_path, cipher=cipher), keys)
    assert (delivery.outcome, delivery.reason) == (Delivered.CLOSED, "undecryptable")


def test_the_signer_inside_has_to_be_the_author_outside(keys: Keys, tmp_path: Path) -> None:
    raw = envelope(signed_entity(), tmp_path).replace(ALICE.encode(), b"ceo@bank.example", 1)
    whole = message_from_bytes(text_of(delivered(raw, keys)))
    assert whole["Verified-Identity"].startswith("none; status=mismatch")


def _protected(folder: Path, *, outside: str = "[...]", hp: str = "cipher") -> bytes:
    """A mail that hides its subject, as RFC 9788 has it: the true one is signed and encrypted."""
    inner = (
        f"From: Alice Example <{ALICE}>\r\nTo: {BOB}\r\nSubject: The vault\r\n"
        "Date: Sun, 22 Nov 2026 02:15:00 +0000\r\nMessage-ID: <1@bank.example>\r\n"
        f'HP-Outer: Subject: [...]\r\nContent-Type: text/plain; hp="{hp}"\r\n\r\nThe code is 1234.\r\n'
    ).encode()
    (folder / "alice.pem").write_bytes(bank().pem[ALICE])
    command = ["openssl", "cms", "-sign", "-binary", "-noattr", "-outform", "DER", "-signer", "alice.pem"]
    (folder / "issuing.pem").write_bytes(bank().issuing.public_bytes(Encoding.PEM))
    command += ["-certfile", "issuing.pem"]
    done = subprocess.run(command, cwd=folder, input=inner, capture_output=True, check=True, timeout=30)
    entity = (
        b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary=b'
        b"\r\n\r\n--b\r\n"
        + inner
        + b"\r\n--b\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(done.stdout).replace(b"\n", b"\r\n")
        + b"\r\n--b--\r\n"
    )
    raw = envelope(entity, folder)
    return raw.replace(b"Subject: Your appointment", b"Subject: " + outside.encode(), 1)


def test_a_subject_that_the_sender_hid_comes_back(keys: Keys, tmp_path: Path) -> None:
    whole = message_from_bytes(text_of(delivered(_protected(tmp_path), keys)))
    assert whole.get_all("Subject") == ["The vault"]
    assert whole["Verified-Identity"].startswith("V4; status=trusted")


@pytest.mark.parametrize("sender", ["", ALICE.replace("alice", "ALICE")], ids=["bounce", "letter-case"])
def test_it_comes_back_where_answers_reach_whoever_hid_it(sender: str, keys: Keys, tmp_path: Path) -> None:
    whole = message_from_bytes(text_of(delivered(_protected(tmp_path), keys, sender=sender)))
    assert whole["Subject"] == "The vault"


@pytest.mark.parametrize("sender", ["eve@evil.example", "carol@bank.example", "no address"])
@pytest.mark.parametrize("own_name", [True, False], ids=["own-name", "replayed"])
def test_no_automatic_answer_tells_a_hidden_subject_to_others(
    own_name: bool, sender: str, keys: Keys, tmp_path: Path
) -> None:
    """Eve has caught the envelope, and sends it again: a vacation answer repeats the Subject."""
    raw = _protected(tmp_path)
    if own_name:
        raw = raw.replace(b"From: Alice Example <%b>" % ALICE.encode(), b"From: " + sender.encode(), 1)
    text = text_of(delivered(raw, keys, sender=sender))
    whole = message_from_bytes(text)
    assert whole.get_all("Subject") == ["[...]"]
    # Who signed is known all the same: that this stands outside, the signer himself has told.
    assert whole["Verified-Identity"].startswith(
        "none; status=mismatch" if own_name else "V4; status=trusted"
    )


@pytest.mark.parametrize(
    ("outside", "hp"), [("Pay at once", "cipher"), ("[...]", "clear")], ids=["changed", "not-hidden"]
)
def test_a_subject_that_somebody_else_changed_does_not(
    outside: str, hp: str, keys: Keys, tmp_path: Path
) -> None:
    whole = message_from_bytes(text_of(delivered(_protected(tmp_path, outside=outside, hp=hp), keys)))
    assert whole.get_all("Subject") == [outside]
    assert whole["Verified-Identity"].startswith("none; status=mismatch; reason=header-mismatch")


# --- EFAIL -----------------------------------------------------------------------------------------------

CONTENTS = {
    "text": ENTITY,
    "text-in-parts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + ENTITY + b"\r\n--b--\r\n",
    "html": HTML,
    "html-beside-text": b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n"
    + ENTITY
    + b"\r\n--b\r\n"
    + HTML
    + b"\r\n--b--\r\n",
    "attachment": b'Content-Type: text/plain; name="x.html"\r\n\r\n<img src=http://evil.example/>\r\n',
    "disposition": b'Content-Type: text/plain\r\nContent-Disposition: inline; filename="x.svg"\r\n\r\nx\r\n',
    "image": b"Content-Type: image/svg+xml\r\n\r\n<svg/>\r\n",
    "external": b"Content-Type: message/external-body; access-type=URL\r\n\r\nx\r\n",
    "message": b"Content-Type: message/rfc822\r\n\r\nFrom: x@y.example\r\n\r\n" + ENTITY,
    "unterminated": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + ENTITY,
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_cannot_send_anything_home_is_opened_without_authentication(
    name: str, keys: Keys, tmp_path: Path
) -> None:
    inert = name in ("text", "text-in-parts")
    closed = envelope(CONTENTS[name], tmp_path, cipher="-aes-256-cbc")
    for choice, opened in (
        (Unauthenticated.SIGNED, False),
        (Unauthenticated.INERT, inert),
        (Unauthenticated.ANY, True),
    ):
        found = delivered(closed, keys, choice=lambda _, said=choice: said)
        assert found.outcome is (Delivered.DECRYPTED if opened else Delivered.WITHHELD), choice
        assert opened or found.reason == "unauthenticated"
    # The same with a cipher that shows every change.
    for choice in Unauthenticated:
        found = delivered(envelope(CONTENTS[name], tmp_path), keys, choice=lambda _, said=choice: said)
        assert found.outcome is Delivered.DECRYPTED


def test_a_signed_part_among_others_is_no_protection(keys: Keys, tmp_path: Path) -> None:
    """Else the attacker would put somebody's signed mail beside what he wants to see."""
    mixed = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        + HTML
        + b"\r\n--b\r\n"
        + signed_entity()
        + b"\r\n--b--\r\n"
    )
    found = delivered(envelope(mixed, tmp_path, cipher="-aes-256-cbc"), keys)
    assert (found.outcome, found.reason) == (Delivered.WITHHELD, "unauthenticated")


def test_altered_cbc_with_a_signature_stays_closed(keys: Keys, tmp_path: Path) -> None:
    cms = bytearray(encrypt(signed_entity(), (person("rsa"),), tmp_path))
    for at in range(len(cms) - 400, len(cms) - 20, 16):
        altered = bytearray(cms)
        altered[at] ^= 0x20
        found = delivered(mail(bytes(altered), author=f"Alice Example <{ALICE}>"), keys)
        assert found.outcome is not Delivered.DECRYPTED or b"status=invalid" in text_of(found)


# --- What stays as it came -------------------------------------------------------------------------------


def test_who_does_not_want_it_gets_it_as_it_came(keys: Keys, tmp_path: Path) -> None:
    found = delivered(envelope(ENTITY, tmp_path), keys, choice=lambda address: None)
    assert (found.outcome, found.reason, keys.unwrapped) == (Delivered.KEPT, "not-wanted", 0)


@pytest.mark.parametrize("form", ["clear", "opaque"])
def test_signed_mail_is_not_touched(form: str, keys: Keys) -> None:
    found = delivered(signed(plain_mail(), form=form), keys)
    assert (found.outcome, found.reason) == (Delivered.KEPT, "not-encrypted")


def test_plain_mail_is_not_touched(keys: Keys) -> None:
    assert delivered(plain_mail(), keys).outcome is Delivered.KEPT


def _closed(raw: bytes, keys: Keys, reason: str, **more: object) -> None:
    found = delivered(raw, keys, **more)
    assert (found.outcome, found.reason.split()[0]) == (Delivered.CLOSED, reason)
    assert text_of(found) == b""


def test_another_ones_mail(keys: Keys, tmp_path: Path) -> None:
    _closed(envelope(ENTITY, tmp_path, recipients=(person("rsa#2"),)), keys, "no-key")


def test_a_key_of_another_address_is_not_used(tmp_path: Path) -> None:
    ceo = person("rsa", address="ceo@bank.example")
    keys = Keys(tmp_path, ceo)
    raw = envelope(ENTITY, tmp_path, recipients=(ceo,))
    _closed(raw, keys, "no-key")
    assert delivered(raw, keys, addresses=("CEO@bank.example",)).outcome is Delivered.DECRYPTED


def test_an_expired_certificate_still_opens_what_was_encrypted_to_it(tmp_path: Path) -> None:
    old = person("rsa", days=1, begun=30)
    raw = envelope(ENTITY, tmp_path, recipients=(old,))
    assert delivered(raw, Keys(tmp_path, old)).outcome is Delivered.DECRYPTED


def test_the_key_agent_is_away(keys: Keys, tmp_path: Path) -> None:
    keys.away = True
    found = delivered(envelope(ENTITY, tmp_path), keys)
    assert (found.outcome, found.reason.split()[0]) == (Delivered.UNAVAILABLE, "key-service")


@pytest.mark.parametrize("cipher", ["-aes-256-gcm", "-aes-256-cbc"])
def test_what_does_not_decrypt(cipher: str, keys: Keys, tmp_path: Path) -> None:
    cms = encrypt(ENTITY, (person("rsa"),), tmp_path, cipher=cipher)
    found = delivered(mail(cms[:-1] + bytes([cms[-1] ^ 1])), keys)
    assert (found.outcome, found.reason) == (Delivered.CLOSED, "undecryptable")


@pytest.mark.integration
def test_a_wrong_key_never_puts_noise_in_the_mails_place(keys: Keys, tmp_path: Path) -> None:
    """One in 256 paddings of CBC is right by chance."""
    cms = encrypt(ENTITY * 3, (person("rsa"),), tmp_path, cipher="-aes-256-cbc")
    spoiled = bytearray(cms)
    at = cms.index(b"\x04\x82\x01\x00") + 40  # the wrapped key
    for number in range(600):
        spoiled[at + number % 200] ^= 1 + number % 255
        found = delivered(mail(bytes(spoiled)), keys)
        assert (found.outcome, found.reason) == (Delivered.CLOSED, "undecryptable")


@pytest.mark.parametrize(
    "content",
    [b"no header at all\r\n", b"\r\nonly a body\r\n", b"Subject: x\r\n\r\nno type\r\n", b""],
    ids=["text", "body", "other-fields", "nothing"],
)
def test_what_is_no_mail_inside(content: bytes, keys: Keys, tmp_path: Path) -> None:
    _closed(envelope(content, tmp_path), keys, "undecryptable")


def test_envelopes_in_envelopes_are_bounded(keys: Keys, tmp_path: Path) -> None:
    def wrapped(entity: bytes) -> bytes:
        raw = envelope(entity, tmp_path)
        return (
            b"".join(f.raw for f in parse_fields(raw)[0] if f.key.startswith(b"content-"))
            + b"\r\n"
            + cut_body(raw)
        )

    two = envelope(wrapped(ENTITY), tmp_path)
    assert delivered(two, keys, layers=2).reason == "aes-gcm+aes-gcm"
    _closed(two, keys, "layers", layers=1)
    _closed(envelope(wrapped(wrapped(ENTITY)), tmp_path), keys, "layers", layers=2)
    assert keys.unwrapped == 5


def test_triple_des_by_setting_alone(keys: Keys, tmp_path: Path) -> None:
    old = envelope(ENTITY, tmp_path, cipher="-des3")
    _closed(old, keys, "cipher")
    assert delivered(old, keys, ciphers=frozenset(CipherKind)).outcome is Delivered.DECRYPTED


def test_compressed_mail_stays_as_it_came(keys: Keys) -> None:
    # RFC 3274: ContentInfo of id-ct-compressedData, as far as it is looked at
    compressed = bytes.fromhex("3011060b2a864886f70d0109100109a0023000")
    assert delivered(mail(compressed), keys).outcome is Delivered.KEPT


def test_no_more_keys_are_tried_than_a_few(keys: Keys, tmp_path: Path) -> None:
    bob = person("rsa")
    cms = encrypt(ENTITY, (bob,) * 30, tmp_path, cipher="-aes-128-gcm")
    _closed(mail(cms[:-1] + bytes([cms[-1] ^ 1])), keys, "undecryptable")
    assert keys.unwrapped == 4


def test_more_content_than_allowed(keys: Keys, tmp_path: Path) -> None:
    _closed(envelope(ENTITY * 100, tmp_path), keys, "undecryptable", content_bytes=2000)


def test_a_damaged_header_is_not_guessed_at(keys: Keys, tmp_path: Path) -> None:
    fields, body = cut(envelope(ENTITY, tmp_path))
    found = deliver(fields, body, (BOB,), parts(keys), damage="odd")
    assert found.outcome is Delivered.CLOSED


def test_two_types_are_not_guessed_at(keys: Keys, tmp_path: Path) -> None:
    raw = b"Content-Type: text/plain\r\n" + envelope(ENTITY, tmp_path)
    _closed(raw, keys, "structure")


def test_dkim_is_that_of_the_envelope(keys: Keys, tmp_path: Path) -> None:
    asked: list[bytes] = []

    def txt(name: bytes) -> bytes | None:
        asked.append(name)
        return None

    raw = (
        b"DKIM-Signature: v=1; a=rsa-sha256; d=bank.example; s=mail; h=from; bh=AAAA; b=AAAA\r\n"
        + envelope(ENTITY, tmp_path)
    )
    given = parts(keys)
    delivery = deliver(*cut(raw), (BOB,), replace(given, inbound=replace(given.inbound, txt=txt)))
    assert b"dkim=" in text_of(delivery)
    assert b"header.d=bank.example" in text_of(delivery)
