"""Storage keys: what is read, whose they are, what is pinned, and what a store in a folder keeps."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)
from cryptography.hazmat.primitives.serialization import PrivateFormat as Format
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.employees import ALICE, certificate
from mailsigil.keys.errors import KeyFileError, SourceAnswer, SourceError, SourceRefused
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.storage.belief import believed
from mailsigil.keys.storage.folder import FolderStore
from mailsigil.keys.storage.key import (
    MAX_KEYS,
    Entry,
    StorageKey,
    StorageKeyKind,
    generate,
    read_der_key,
    read_pem_keys,
    read_pkcs12_key,
)
from mailsigil.keys.storage.pins import PinFolder, public_pem
from spare_keys import rsa_key

BOB = "bob@bank.example"
NEW, OLD, ALIEN = (generate(StorageKeyKind.P256) for _ in range(3))


def _pem(key: object, form: PrivateFormat = PrivateFormat.PKCS8, passphrase: bytes = b"") -> bytes:
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, lock)  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("kind", [each for each in StorageKeyKind if each is not StorageKeyKind.RSA4096])
def test_a_key_that_is_made_can_be_read(kind: StorageKeyKind) -> None:
    key = generate(kind)
    assert read_pem_keys("kv", key.private_pem) == (key,)
    assert public_pem(key.public).startswith(b"-----BEGIN PUBLIC KEY-----")


def test_a_key_does_not_show_and_is_not_copied() -> None:
    assert "PRIVATE" not in repr(NEW)
    with pytest.raises(TypeError, match="not to be copied"):
        pickle.dumps(NEW)


def test_several_keys_are_read_in_their_order_and_in_every_form() -> None:
    first, second = ec.generate_private_key(ec.SECP521R1()), rsa.generate_private_key(65537, 2048)
    text = b"a note\n" + _pem(first, Format.TraditionalOpenSSL) + b"\n" + _pem(second, passphrase=b"sesame")
    keys = read_pem_keys("kv", text, passphrase=b"sesame")
    assert [key.private_pem for key in keys] == [_pem(first), _pem(second)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(lambda: b"", "no private key", id="nothing"),
        pytest.param(lambda: b"<html>", "no private key", id="a web page"),
        pytest.param(lambda: NEW.private_pem[:-20], "cut off", id="cut off"),
        pytest.param(lambda: NEW.private_pem.replace(b"M", b"N"), "cannot be read", id="damaged"),
        pytest.param(lambda: NEW.private_pem * (MAX_KEYS + 1), "more than 32 keys", id="too many"),
        pytest.param(lambda: b"x" * 300_000, "larger than", id="too large"),
        pytest.param(lambda: _pem(rsa_key(1024)), "RSA with 1024 bits", id="weak RSA"),
        pytest.param(lambda: _pem(ed25519.Ed25519PrivateKey.generate()), "of a kind", id="a signing key"),
        pytest.param(lambda: _pem(ec.generate_private_key(ec.SECP256K1())), "of a kind", id="odd curve"),
        pytest.param(
            lambda: _pem(ec.generate_private_key(ec.SECP256R1()), passphrase=b"x"), "passphrase", id="locked"
        ),
    ],
)
def test_what_is_no_storage_key_is_refused(text: Callable[[], bytes], sentence: str) -> None:
    with pytest.raises(SourceAnswer, match=sentence) as caught:
        read_pem_keys("kv", text())
    assert "MII" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_private_key_under_another_public_one_is_refused() -> None:
    one, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    # SEC 1 C.4: the public point is a field of its own, beside the private number.
    form, plain = PublicFormat.UncompressedPoint, NoEncryption()
    der = one.private_bytes(Encoding.DER, PrivateFormat.PKCS8, plain)
    points = [key.public_key().public_bytes(Encoding.X962, form) for key in (one, other)]
    with pytest.raises(SourceAnswer, match="cannot be read"):
        read_der_key("kv", der.replace(points[0], points[1]))


@given(st.binary(max_size=400), st.integers(0, 230))
@settings(max_examples=60, deadline=None)
def test_hostile_texts_are_refused_and_not_more(noise: bytes, place: int) -> None:
    for text in (noise, NEW.private_pem[:place] + noise + NEW.private_pem[place:]):
        # Nothing else than SourceAnswer may come.
        with contextlib.suppress(SourceAnswer):
            assert len(read_pem_keys("kv", text)) <= MAX_KEYS


BELIEFS = [
    pytest.param(Entry(), (), False, (), id="no keys, none expected"),
    pytest.param(Entry((NEW,), frozenset({BOB})), (NEW.public,), False, (NEW,), id="the pinned key"),
    pytest.param(Entry((NEW,)), (NEW.public,), False, (NEW,), id="no owner recorded, but pinned"),
    pytest.param(
        Entry((OLD, NEW)), (NEW.public, OLD.public), False, (NEW, OLD), id="in the order of the pins"
    ),
    pytest.param(Entry((NEW,)), (NEW.public, OLD.public), False, (NEW,), id="an older one is lost"),
    pytest.param(
        Entry((NEW, OLD), frozenset({BOB})), (OLD.public,), True, (NEW, OLD), id="a new one is adopted"
    ),
    pytest.param(Entry((NEW,), frozenset({BOB})), (), True, (NEW,), id="the first one is adopted"),
    pytest.param(Entry(), (NEW.public,), False, "has no keys for bob", id="the keys are gone"),
    pytest.param(
        Entry((NEW,), frozenset({ALICE})), (NEW.public,), True, f"those of {ALICE}", id="another's entry"
    ),
    pytest.param(Entry((ALIEN,)), (NEW.public,), False, "fits none of the public keys", id="another's key"),
    pytest.param(
        Entry((NEW, ALIEN)), (NEW.public,), False, "fits none", id="another's key beside the right one"
    ),
    pytest.param(Entry((ALIEN,)), (NEW.public,), True, "fits none", id="adopt, but no owner is recorded"),
    pytest.param(
        Entry((ALIEN,), frozenset({BOB})), (NEW.public,), True, "newest key", id="adopt takes nothing away"
    ),
    pytest.param(Entry((OLD,)), (NEW.public, OLD.public), False, "newest key", id="the newest is lost"),
]


@pytest.mark.parametrize(("entry", "pinned", "adopt", "outcome"), BELIEFS)
def test_what_is_believed(
    entry: Entry, pinned: tuple[bytes, ...], adopt: bool, outcome: tuple[StorageKey, ...] | str
) -> None:
    if isinstance(outcome, str):
        with pytest.raises(SourceAnswer, match=outcome):
            believed("kv", BOB, entry, pinned=pinned, adopt=adopt)
    else:
        assert believed("kv", BOB, entry, pinned=pinned, adopt=adopt) == outcome


def test_pins_are_kept_in_their_order(tmp_path: Path) -> None:
    pins = PinFolder(tmp_path)
    assert pins.read(BOB) == ()
    pins.write(BOB, [NEW.public, OLD.public])
    assert pins.read(BOB) == (NEW.public, OLD.public)
    assert pins.addresses() == [BOB]
    assert pins.path(BOB).stat().st_mode & 0o777 == 0o600


def _other_name(pins: PinFolder) -> None:
    pins.path(BOB).write_bytes(pins.path(BOB).read_bytes().replace(b"# bob", b"# rob"))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(_other_name, f"not that of {BOB}", id="another user's file"),
        pytest.param(lambda pins: pins.path(BOB).write_bytes(b"# " + BOB.encode()), "no public", id="empty"),
        pytest.param(
            lambda pins: pins.path(BOB).write_bytes(pins.path(BOB).read_bytes()[:-30]),
            "damaged",
            id="cut off",
        ),
        pytest.param(lambda pins: pins.path(BOB).chmod(0o666), "may write", id="open to others"),
        pytest.param(
            lambda pins: pins.folder.rename(pins.folder.with_name("gone")), "not there", id="unmounted"
        ),
    ],
)
def test_a_damaged_pin_is_a_fault_and_not_nobody(
    damage: Callable[[PinFolder], object], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "pins").mkdir(mode=0o700)
    pins = PinFolder(tmp_path / "pins")
    pins.write(BOB, [NEW.public])
    damage(pins)
    with pytest.raises(KeyFileError, match=sentence):
        pins.read(BOB)


def test_a_folder_keeps_keys_the_newest_first(tmp_path: Path) -> None:
    store = FolderStore("files", tmp_path)
    assert store.fetch(BOB) == Entry((), frozenset({BOB}))
    store.add(BOB, OLD)
    store.add(BOB, NEW)
    assert store.fetch(BOB).keys == (NEW, OLD)
    assert (tmp_path / f"{BOB}.pem").stat().st_mode & 0o777 == 0o600


def test_a_folder_takes_pkcs12(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    owned = certificate(key, addresses=(BOB,))
    lock = BestAvailableEncryption(b"sesame")
    path = tmp_path / f"{BOB}.p12"
    path.write_bytes(pkcs12.serialize_key_and_certificates(b"bob", key, owned, None, lock))
    path.chmod(0o600)
    secret = tmp_path / "passphrase"
    secret.write_text("sesame\n")
    secret.chmod(0o600)
    store = FolderStore("files", tmp_path, passphrase=SecretFile("files", str(secret)))
    store.add(BOB, NEW)
    entry = store.fetch(BOB)
    assert entry.owners == {BOB}
    assert [each.private_pem for each in entry.keys] == [NEW.private_pem, _pem(key)]
    secret.write_text("other\n")
    with pytest.raises(SourceAnswer, match="PKCS#12 cannot be opened"):
        store.fetch(BOB)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(lambda path: path.chmod(0o644), "others than its owner", id="open to others"),
        pytest.param(lambda path: path.write_bytes(b"?"), "no private key", id="no key"),
        pytest.param(lambda path: path.unlink() or path.mkdir(), "no regular file", id="a folder"),
        pytest.param(
            lambda path: path.unlink() or path.symlink_to("/etc/shadow"), "leaves the folder", id="a link"
        ),
    ],
)
def test_a_folder_refuses_what_is_not_safe(
    damage: Callable[[Path], object], sentence: str, tmp_path: Path
) -> None:
    store = FolderStore("files", tmp_path)
    store.add(BOB, NEW)
    damage(tmp_path / f"{BOB}.pem")
    with pytest.raises(SourceError, match=sentence):
        store.fetch(BOB)


def test_a_folder_that_is_not_there_is_no_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="is not there"):
        FolderStore("files", tmp_path / "unmounted").fetch(BOB)


def test_a_pkcs12_without_a_key_is_refused() -> None:
    only = certificate(ec.generate_private_key(ec.SECP256R1()), addresses=(BOB,))
    bag = pkcs12.serialize_key_and_certificates(b"bob", None, None, [only], NoEncryption())
    with pytest.raises(SourceAnswer, match="no private key"):
        read_pkcs12_key("files", bag, passphrase=None)
