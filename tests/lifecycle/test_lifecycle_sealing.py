"""Private keys in the database: encrypted, bound to their certificate, and the secret is looked after."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.lifecycle.sealing import Seal, SealError, load_seal

WHERE = {"source": "ca", "address": "alice@bank.example", "serial": "1f"}
SECRET = bytes(range(32))


def test_what_was_sealed_is_opened() -> None:
    seal = Seal(SECRET)
    one, other = seal.close(b"key", **WHERE), seal.close(b"key", **WHERE)
    assert one != other
    assert Seal(SECRET).open(one, **WHERE) == b"key"


@pytest.mark.parametrize("name", list(WHERE))
def test_it_opens_for_its_own_certificate_alone(name: str) -> None:
    sealed = Seal(SECRET).close(b"key", **WHERE)
    with pytest.raises(SealError, match="cannot be decrypted"):
        Seal(SECRET).open(sealed, **{**WHERE, name: "other"})


def test_another_secret_opens_nothing() -> None:
    with pytest.raises(SealError, match="share_keys_with"):
        Seal(bytes(32)).open(Seal(SECRET).close(b"key", **WHERE), **WHERE)


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(SealError):
        Seal(SECRET).open(junk, **WHERE)


@given(st.integers(0, 31 + 28))
@settings(max_examples=40)
def test_a_changed_octet_is_refused(place: int) -> None:
    sealed = bytearray(Seal(SECRET).close(b"k" * 31, **WHERE))
    sealed[place] ^= 1
    with pytest.raises(SealError):
        Seal(SECRET).open(bytes(sealed), **WHERE)


def test_the_secret_shows_nowhere() -> None:
    seal = Seal(SECRET)
    assert repr(seal) == "<Seal>"
    with pytest.raises(TypeError):
        pickle.dumps(seal)


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        (base64.b64encode(SECRET), 0o600, ""),
        (base64.b64encode(SECRET[:31]), 0o600, "does not hold 32 octets"),
        (SECRET.hex().encode(), 0o600, "does not hold 32 octets"),
        (b"", 0o600, "cannot be read|does not hold"),
        (base64.b64encode(SECRET), 0o644, "open to other users|others"),
    ],
)
def test_the_file(tmp_path: Path, content: bytes, mode: int, sentence: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content + b"\n")
    file.chmod(mode)
    if not sentence:
        assert load_seal(str(file)) is not None
        return
    with pytest.raises(SealError, match=sentence) as caught:
        load_seal(str(file))
    assert base64.b64encode(SECRET).decode() not in str(caught.value)


def test_without_a_file_nothing_is_shared() -> None:
    assert load_seal("") is None
