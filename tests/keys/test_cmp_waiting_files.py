"""The file in which a CMP request waits: whatever stands in it, a request is made, and no error."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keys.employees import ALICE
from keys.test_sources_hostile import ANSWER, client
from mailsigil.keys.errors import SourceAnswer
from mailsigil.keys.keyring import MAX_TRANSACTION, StateFolder
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.sources import cmp_asn1
from mailsigil.keys.sources.cmp_messages import Transaction
from mailsigil.keys.sources.cmp_waiting import LONGEST, Waiting, WaitingRequests
from mailsigil.keys.subject import SubjectRequest

NOW = dt.datetime(2026, 3, 2, 12, 0, 0, 250_000, dt.UTC)
REQUEST = SubjectRequest(address=ALICE, given_name="Alice", surname="Exämple")
NEW = NewKey.generate(REQUEST, KeyKind.P256)
WAITING = Waiting(
    identifier=b"0123456789abcdef",
    asked=b"a nonce",
    theirs=b"",
    kind="p10cr",
    number=-1,
    begun=NOW,
    again=NOW + dt.timedelta(seconds=7),
)


class Place:
    """The memory of one source, and the file that it looks into."""

    def __init__(self, folder: Path) -> None:
        self.state = StateFolder("ca", folder)
        self.file = self.state.transaction_file(ALICE)

    def requests(self, ahead: dt.timedelta = dt.timedelta(0)) -> WaitingRequests:
        return WaitingRequests(self.state, now=lambda: NOW + ahead)

    def kept(self) -> dict[str, Any]:
        self.requests().keep(REQUEST, NEW, WAITING)
        values: dict[str, Any] = json.loads(self.file.read_bytes())
        return values


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_is_kept_is_found_again(place: Place) -> None:
    place.requests().keep(REQUEST, NEW, WAITING)
    assert place.requests().find(REQUEST, NEW) == WAITING
    assert place.file.stat().st_mode & 0o777 == 0o600
    assert place.file.name.startswith(".")
    assert NEW.spki.hex() not in place.file.read_text()
    place.requests().end(REQUEST)
    assert place.requests().find(REQUEST, NEW) is None
    place.requests().end(REQUEST)


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 2},
        {"version": "1"},
        {"for": "0" * 64},
        {"for": None},
        {"transaction": ""},
        {"transaction": "zz"},
        {"transaction": 7},
        {"asked": ""},
        {"theirs": ["00"]},
        {"kind": "rr"},
        {"kind": ["p10cr"]},
        {"kind": {}},
        {"number": 1},
        {"number": True},
        {"number": -1.0},
        {"number": 10**400},
        {"begun": "yesterday"},
        {"begun": "2026-03-02T12:00:00"},
        {"begun": "2026-03-02T12:00:00+01:00"},
        {"begun": "0001-01-01T00:00:00+00:00"},
        {"begun": "9999-12-31T23:59:59+00:00"},
        {"begun": 1e308},
        {"again": None},
        {"more": 1},
    ],
    ids=lambda damage: ",".join(f"{name}={value!s:.30}" for name, value in damage.items()),
)
def test_other_values_are_no_request(
    place: Place, damage: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    place.file.write_text(json.dumps(place.kept() | damage))
    with caplog.at_level(logging.WARNING):
        assert place.requests().find(REQUEST, NEW) is None
    assert f'source "ca": {ALICE} is asked for anew' in caplog.text
    assert not place.file.exists()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{}", b"null", b"[1]", b"7", b'"a"', b"NaN", b"\xff\xfe", b"\x00" * 100),
        *(b"[" * 4000, b'{"a":' * 800, b"1" * 4000, b" " * (MAX_TRANSACTION + 5)),
        b"-----BEGIN PRIVATE KEY-----",
    ],
    ids=lambda content: repr(content[:20]),
)
def test_other_content_is_no_request(place: Place, content: bytes) -> None:
    place.file.write_bytes(content)
    assert place.requests().find(REQUEST, NEW) is None
    assert not place.file.exists()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 600), length=st.integers(0, 30), put=st.binary(max_size=30))
def test_damage_is_no_error(place: Place, at: int, length: int, put: bytes) -> None:
    place.kept()
    whole = place.file.read_bytes()
    place.file.write_bytes(whole[:at] + put + whole[at + length :])
    found = place.requests().find(REQUEST, NEW)
    assert found is None or found.kind in ("p10cr", "kur")


def test_a_large_file_is_not_read_to_its_end(place: Place) -> None:
    place.kept()
    with place.file.open("ab") as file:
        file.truncate(1 << 40)  # Sparse: nobody has that much memory.
    assert place.requests().find(REQUEST, NEW) is None


def test_what_is_no_file_is_not_opened(place: Place, tmp_path: Path) -> None:
    place.kept()
    target = tmp_path / "elsewhere"
    place.file.rename(target)
    place.file.symlink_to(target)
    assert place.requests().find(REQUEST, NEW) is None
    place.requests().keep(REQUEST, NEW, WAITING)
    assert not place.file.is_symlink()
    place.file.unlink()
    os.mkfifo(place.file)
    assert place.requests().find(REQUEST, NEW) is None


def test_a_folder_that_is_not_there_costs_the_memory_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    requests = Place(tmp_path / "none").requests()
    assert requests.find(REQUEST, NEW) is None
    requests.keep(REQUEST, NEW, WAITING)
    assert "is not kept, and will be made anew" in caplog.text
    requests.end(REQUEST)


def test_what_the_authority_wants_repeated_is_bounded(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    long = Waiting(
        **{name: getattr(WAITING, name) for name in Waiting.__slots__ if name != "theirs"}, theirs=b"n" * 5000
    )
    place.requests().keep(REQUEST, NEW, long)
    assert "too long" in caplog.text
    assert not place.file.exists()


def test_another_key_or_other_names_are_another_request(place: Place) -> None:
    for request, new in [
        (REQUEST, NewKey.generate(REQUEST, KeyKind.P256)),
        (SubjectRequest(address=ALICE, given_name="Alice", surname="Example"), NEW),
        (SubjectRequest(address=ALICE, surname="Exämple", title="Alice"), NEW),
    ]:
        place.kept()
        assert place.requests().find(request, new) is None
        assert not place.file.exists()


def test_nobody_is_asked_for_ever(place: Place) -> None:
    for ahead in (LONGEST, -LONGEST):
        place.kept()
        assert place.requests(ahead).find(REQUEST, NEW) == WAITING
        assert place.requests(ahead * 1.01).find(REQUEST, NEW) is None
        assert not place.file.exists()


def test_a_delayed_answer_may_name_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9483 4.4: the nonce is that of what is answered, the poll or the request; and of nothing else."""
    monkeypatch.setattr("mailsigil.keys.sources.cmp.check_protection", lambda *_, **__: None)
    transaction = Transaction()
    transaction.identifier = transaction.asked = b"0123456789abcdef"
    transaction.nonce = b"that of the poll"
    client()._understood(transaction, ANSWER)
    with pytest.raises(SourceAnswer, match="belongs to another request"):
        client()._understood(transaction, ANSWER)  # It is decided: no second answer.
    message = cmp_asn1.Message.load(ANSWER)
    header = {name: message["header"][name] for name in ("pvno", "sender", "recipient")}
    header |= dict.fromkeys(("transaction_id", "recip_nonce"), b"0123456789abcdef")
    item = {"cert_req_id": 0, "check_after": 7}
    told = cmp_asn1.Message({"header": header, "body": cmp_asn1.Body(name="poll_rep", value=[item])})
    transaction.asked = b"0123456789abcdef"
    with pytest.raises(SourceAnswer, match="belongs to another request"):
        client()._understood(transaction, told.dump())


def test_it_goes_with_the_key_that_waits(place: Place) -> None:
    place.kept()
    place.state.waiting_file(ALICE).write_bytes(NEW.private_pem())
    place.state.drop_waiting(ALICE)
    assert list(place.state.path.iterdir()) == []
