from __future__ import annotations

import base64
from pathlib import Path

import pytest

from mailsigil.ca.logins import Logins, Refused
from mailsigil.ca.passwords import PasswordError, Passwords

SECRET = b"correct-horse-battery"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "passwords"
    Passwords(path).set("alice", SECRET)
    return path


def basic(user: str, password: bytes = SECRET) -> str:
    return "Basic " + base64.b64encode(user.encode() + b":" + password).decode()


def test_the_file_is_private_and_holds_no_password(file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert SECRET not in file.read_bytes()
    assert file.read_text().startswith("alice:scrypt$14$8$1$")


def test_accepts_the_right_one_alone_and_takes_in_changes(file: Path) -> None:
    passwords = Passwords(file)
    assert passwords.accept("alice", SECRET)
    assert passwords.accept("alice", SECRET)
    for user, password in (("alice", b"wrong"), ("bob", SECRET), ("", SECRET), ("alice", b"")):
        assert not passwords.accept(user, password)
    Passwords(file).set("alice", b"another-password")
    assert not passwords.accept("alice", SECRET)
    assert passwords.accept("alice", b"another-password")
    Passwords(file).set("bob", SECRET)
    assert passwords.users() == {"alice", "bob"}


def test_no_file_means_nobody(tmp_path: Path) -> None:
    assert not Passwords(tmp_path / "none").accept("alice", SECRET)


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "alice:",
        "alice:plain",
        "alice:scrypt$99$8$1$c2FsdHNhbHQ=$" + base64.b64encode(bytes(32)).decode(),
        "alice:scrypt$14$8$1$c2FsdHNhbHQ=$AAAA",
        "alice:md5$14$8$1$c2FsdHNhbHQ=$" + base64.b64encode(bytes(32)).decode(),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "passwords"
    path.touch(mode=0o600)
    path.write_text(f"# users\n{line}\n")
    with pytest.raises(PasswordError, match=r"passwords:2 is no password"):
        Passwords(path).accept("alice", SECRET)


def test_a_file_for_everybody_is_refused(file: Path) -> None:
    file.chmod(0o644)
    with pytest.raises(PasswordError, match="chmod 600"):
        Passwords(file).accept("alice", SECRET)


@pytest.mark.parametrize(("user", "password"), [("a:b", SECRET), ("", SECRET), ("alice", b"short")])
def test_what_cannot_be_set(file: Path, user: str, password: bytes) -> None:
    with pytest.raises(PasswordError):
        Passwords(file).set(user, password)


@pytest.mark.parametrize(
    ("header", "user"),
    [
        (None, Refused.NONE),
        ("", Refused.NONE),
        (basic("alice"), "alice"),
        (basic("alice").replace("Basic", "bAsIc"), "alice"),
        (basic("alice", b"wrong"), Refused.WRONG),
        ("Basic !!!", Refused.WRONG),
        ("Basic " + base64.b64encode(b"\xff:x").decode(), Refused.WRONG),
        ("Bearer abc", Refused.WRONG),
    ],
)
def test_headers(file: Path, header: str | None, user: object) -> None:
    assert Logins(Passwords(file), most_failures=3).user(header, "192.0.2.1") == user


def test_guessing_ends_for_one_address_and_for_a_minute(file: Path) -> None:
    time = 100.0
    logins = Logins(Passwords(file), most_failures=3, clock=lambda: time)
    for _ in range(3):
        assert logins.user(basic("alice", b"guess"), "192.0.2.1") is Refused.WRONG
    assert logins.user(basic("alice"), "192.0.2.1") is Refused.TOO_MANY
    assert logins.user(basic("alice"), "192.0.2.2") == "alice"
    time += 61
    assert logins.user(basic("alice"), "192.0.2.1") == "alice"
