"""The post-login protocol as bytes, the names of users, and the settings that keys become."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.dovecot.mail_crypt import Release, decrypting, encrypting
from mailsigil.dovecot.postlogin_wire import (
    MAX_REQUEST,
    PostloginError,
    PostloginRequest,
    is_complete,
    parse_request,
    write_reply,
)
from mailsigil.dovecot.standing import shown
from mailsigil.dovecot.users import address_of
from mailsigil.keys.storage.key import StorageKeyKind, generate, read_pem_keys
from mailsigil.keys.storage.pins import public_pem

HEAD = b"VERSION\tscript-login\t1\t0\n"
# As Dovecot 2.3.19 and 2.4.1 sent it.
SEEN = (
    b"127.0.0.1\t192.0.2.7\tbob@bank.example\tuid=8\tgid=8\thome=/srv/mail/bob@bank.example"
    b"\tauth_mech=PLAIN\tauth_token=7ee3e7905fe2edaa5b27ba4fd29a705ba2e06b6e\n"
)


def test_a_request_as_dovecot_sends_it() -> None:
    request = parse_request(HEAD + SEEN)
    assert (request.local, request.remote, request.user) == ("127.0.0.1", "192.0.2.7", "bob@bank.example")
    assert request.fields["home"] == "/srv/mail/bob@bank.example"
    assert not request.is_master


@pytest.mark.parametrize("field", [b"master_user=root", b"auth_user=root@bank.example"])
def test_a_master_user_is_seen(field: bytes) -> None:
    assert parse_request(HEAD + SEEN.replace(b"uid=8", field)).is_master


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        pytest.param(b"\n\n", "another protocol", id="empty lines"),
        pytest.param(b"VERSION\tscript-login\t2\t0\n" + SEEN, "a version", id="a later version"),
        pytest.param(b"VERSION\tauth\t1\t0\n" + SEEN, "another protocol", id="another protocol"),
        pytest.param(HEAD + b"1\t2\n", "too few", id="no user"),
        pytest.param(HEAD + b"1\t2\t\n", "names no user", id="an empty user"),
        pytest.param(HEAD + b"1\t2\tb" + b"\tx" * 600 + b"\n", "too many", id="too many fields"),
        pytest.param(HEAD + b"1\t2\tb\ta=1\ta=2\n", "twice", id="a field twice"),
        pytest.param(HEAD + SEEN + b"more", "not one line", id="a third line"),
        pytest.param(HEAD + b"1\t2\tb\x01x\n", "escape", id="an unknown escape"),
        pytest.param(HEAD + b"1\t2\tb\x01\n", "escape", id="an escape that ends"),
        pytest.param(HEAD + b"1\t2\tb\0\n", "escaped", id="a bare NUL"),
    ],
)
def test_other_requests_are_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(PostloginError, match=sentence):
        parse_request(data)


def test_a_request_has_an_end() -> None:
    assert not is_complete(HEAD + SEEN[:-1])
    assert is_complete(HEAD + SEEN)
    with pytest.raises(PostloginError, match="longer"):
        is_complete(HEAD + b"x" * MAX_REQUEST)


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_whatever_comes_is_a_request_or_refused(noise: bytes) -> None:
    for data in (noise, HEAD + noise, HEAD + b"1\t2\t" + noise + b"\n"):
        try:
            request = parse_request(data)
        except PostloginError:
            continue
        # What was read can be written, and stays one line.
        assert write_reply(request, []).count(b"\n") == 1


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read_again(values: list[str]) -> None:
    fields = [(f"f{number}", value) for number, value in enumerate(values)]
    line = write_reply(PostloginRequest("", "", "bob", {}), fields)
    request = parse_request(HEAD + b"1\t2\t" + line)
    assert list(request.fields.items()) == fields


def test_escapes_are_those_of_dovecot() -> None:
    request = PostloginRequest("", "", "b", {})
    assert write_reply(request, [("k", "\0\x01\t\r\n")]) == b"b\tk=\x010\x011\x01t\x01r\x01n\n"


def test_what_the_user_database_said_is_repeated() -> None:
    request = parse_request(HEAD + b"1\t2\tbob\tuid=8\thome=/srv/b\x01tob\tnologin\tquota=1\n")
    said = b"bob\tuid=8\thome=/srv/b\x01tob\tnologin"
    assert write_reply(request, []) == said + b"\tquota=1\n"
    assert write_reply(request, [("quota", "2"), ("key", "k")]) == said + b"\tquota=2\tkey=k\n"


@pytest.mark.parametrize(
    ("user", "address"),
    [
        ("bob@bank.example", "bob@bank.example"),
        ("Bob@Bank.Example", "bob@bank.example"),
        ("bob.b+x_y=z-1@bank.example", "bob.b+x_y=z-1@bank.example"),
        ("bob", "bob@bank.example"),
        ("../x", ""),
        ("..", ""),
        ("../x@bank.example", ""),
        ("a b@bank.example", ""),
        ("a/b@bank.example", ""),
        (".bob@bank.example", ""),
        ("b..b@bank.example", ""),
        ("bob@bank.example\n", ""),
        ("bob\0@bank.example", ""),
        ("bob@b@bank.example", ""),
        ("bob@", ""),
        ("@bank.example", ""),
        ("b%2fb@bank.example", ""),
        ("böb@bank.example", ""),
        ("bob@bank.example.", ""),
        ("x" * 10_000, ""),
        ("x" * 10_000 + "@bank.example", ""),
        ("", ""),
    ],
)
def test_only_plain_names_have_keys(user: str, address: str) -> None:
    assert address_of(user, bare_domain="bank.example") == address


def test_without_a_bare_domain_a_bare_name_has_no_keys() -> None:
    assert address_of("bob") == ""


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_an_address_can_be_a_path(user: str) -> None:
    address = address_of(user)
    assert not set(address) & set("/\\%?# \t\n\0'\"")
    assert ".." not in address
    assert "\n" not in shown(user)


def test_keys_become_the_settings_of_2_3() -> None:
    keys = [generate(StorageKeyKind.P256), generate(StorageKeyKind.P256)]
    fields = dict([*encrypting(Release.V23, keys[0].public), *decrypting(Release.V23, keys)])
    assert list(fields) == [
        "mail_crypt_global_public_key",
        "mail_crypt_save_version",
        "mail_crypt_global_private_key",
        "mail_crypt_global_private_key2",
    ]
    assert base64.b64decode(fields["mail_crypt_global_public_key"]) == public_pem(keys[0].public)
    assert base64.b64decode(fields["mail_crypt_global_private_key2"]) == keys[1].private_pem


def test_keys_become_the_settings_of_2_4() -> None:
    keys = [generate(StorageKeyKind.P256), generate(StorageKeyKind.P256)]
    fields = dict([*encrypting(Release.V24, keys[0].public), *decrypting(Release.V24, keys)])
    assert fields["crypt_write_algorithm"] == "aes-256-gcm-sha256"
    assert fields["crypt_global_private_key"] == "k1 k2"
    text = fields["crypt_global_private_key/k2/crypt_private_key_file"]
    assert read_pem_keys("test", text.removeprefix("inline:").encode()) == (keys[1],)
