"""Content-Type as senders write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsigil.message.media_type import MAX_PARAMETERS, MAX_VALUE, MediaType, parse_media_type
from stopwatch import work_of_less_than

CLEAN: list[object] = [
    pytest.param(None, "text/plain", {}, id="absent"),
    pytest.param(b" TEXT/Html ; CHARSET=UTF-8", "text/html", {"charset": "UTF-8"}, id="letter-case"),
    pytest.param(
        b' multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256;\r\n\tboundary="=_a b;c"',
        "multipart/signed",
        {"protocol": "application/pkcs7-signature", "micalg": "sha-256", "boundary": "=_a b;c"},
        id="signed",
    ),
    pytest.param(b"a/b; x=1;", "a/b", {"x": "1"}, id="semicolon-at-end"),
    pytest.param(b"a/b;; x=1", "a/b", {"x": "1"}, id="two-semicolons"),
    pytest.param(b"a / b ; x = 1", "a/b", {"x": "1"}, id="spaces"),
    pytest.param(rb'a/b; x="q\"\\;"', "a/b", {"x": 'q"\\;'}, id="escapes"),
    pytest.param(b'a/b; x=""', "a/b", {"x": ""}, id="empty-quoted"),
    pytest.param(b"a/b (c(d;e)) ; x=1 (f)", "a/b", {"x": "1"}, id="comments"),
    pytest.param(b'a/b; x="(1)"', "a/b", {"x": "(1)"}, id="no-comment-in-quotes"),
    pytest.param(b"a/b; x==_1/2:3?", "a/b", {"x": "=_1/2:3?"}, id="specials-unquoted"),
    pytest.param(b"a/b; x*=utf-8'de'%C3%BC", "a/b", {"x": "ü"}, id="rfc2231-charset"),
    pytest.param(b"a/b; x*=iso-8859-1''%FC", "a/b", {"x": "ü"}, id="rfc2231-latin"),
    pytest.param(b'a/b; x*0="==b"; x*1=ound', "a/b", {"x": "==bound"}, id="rfc2231-continued"),
    pytest.param(b"a/b; x*1=b; x*0*=utf-8''%41; x*2*=%43", "a/b", {"x": "AbC"}, id="rfc2231-mixed-order"),
    pytest.param(b"a/b; x*=nonsense''%41", "a/b", {"x": "A"}, id="rfc2231-unknown-charset"),
    pytest.param('a/b; x="ü"'.encode(), "a/b", {"x": "ü"}, id="raw-utf8"),
    pytest.param(b'a/b; x="\xfc"', "a/b", {"x": "\udcfc"}, id="raw-octets"),
]
FAULTY: list[object] = [
    pytest.param(b"", "text/plain", {}, "no type and subtype", id="empty"),
    pytest.param(b"text", "text/plain", {}, "no type and subtype", id="no-subtype"),
    pytest.param(b"a b/c", "text/plain", {}, "no type and subtype", id="space-in-type"),
    pytest.param(b"a/b x=1", "a/b", {}, "text where a semicolon was due", id="no-semicolon"),
    pytest.param(b"a/b; x=1; x=2", "a/b", {"x": "1"}, "parameter x given twice", id="twice"),
    pytest.param(b"a/b; x=1; x*=''2", "a/b", {"x": "2"}, "parameter x given twice", id="twice-extended"),
    pytest.param(b"a/b; x*0=1; x*00=2", "a/b", {"x": "1"}, "parameter x given twice", id="twice-section"),
    pytest.param(b"a/b; x*1=2", "a/b", {"x": "2"}, "parameter x with a piece missing", id="gap"),
    pytest.param(b'a/b; x="1; y=2', "a/b", {"x": "1; y=2"}, "quoted string without end", id="open-quote"),
    pytest.param(
        b"a/b; x=1 2; y=3", "a/b", {"x": "1 2", "y": "3"}, "parameter value not quoted", id="unquoted"
    ),
    pytest.param(b"a/b; x=", "a/b", {"x": ""}, "parameter value not quoted", id="no-value"),
    pytest.param(b"a/b; x; y=3", "a/b", {"y": "3"}, "parameter without value", id="no-equals"),
    pytest.param(b"a/b (c; x=1", "a/b", {}, "comment without end", id="open-comment"),
    pytest.param(b"a/b; x=1\n; y=2", "a/b", {"x": "1", "y": "2"}, "control characters", id="bare-lf"),
    pytest.param(b'a/b; x="1"2', "a/b", {"x": "1"}, "text where a semicolon was due", id="behind-quotes"),
    pytest.param(b"a/b;" + b"x" * MAX_VALUE, "text/plain", {}, "value too long", id="too-long"),
]


@pytest.mark.parametrize(("value", "full", "params"), CLEAN)
def test_clean(value: bytes | None, full: str, params: dict[str, str]) -> None:
    media_type = parse_media_type(value)
    assert (media_type.full, media_type.params, media_type.fault) == (full, params, "")


@pytest.mark.parametrize(("value", "full", "params", "fault"), FAULTY)
def test_faulty(value: bytes, full: str, params: dict[str, str], fault: str) -> None:
    media_type = parse_media_type(value)
    assert (media_type.full, media_type.params, media_type.fault) == (full, params, fault)


def test_parameters_are_bounded() -> None:
    value = b"a/b" + b"".join(b";p%d=1" % number for number in range(2 * MAX_PARAMETERS))
    media_type = parse_media_type(value)
    assert len(media_type.params) == MAX_PARAMETERS
    assert media_type.fault == "too many parameters"


_PIECES = st.sampled_from([*'a/b;="()\\* \t', "x*0*=", "utf-8''", "%C3", '"a"', "\r\n ", "\xff", "\0"])


@given(st.lists(_PIECES, max_size=30).map(lambda pieces: ("a/b" + "".join(pieces)).encode("latin-1")))
def test_any_octets_give_a_media_type(value: bytes) -> None:
    media_type = parse_media_type(value)
    assert isinstance(media_type, MediaType)
    for text in media_type.params.values():
        text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("piece", [b'"', b";a", b";a=", b'\\"', b"(", b"()", b";a*1=x", b" ", b"a", b";="])
def test_time_stays_linear(piece: bytes) -> None:
    value = b"a/b;x=" + piece * (MAX_VALUE // len(piece) - 8)
    with work_of_less_than(0.25):
        parse_media_type(value)


@pytest.mark.parametrize(
    ("value", "doubtful"),
    [
        (b"a/b; x=1; boundary=c", set()),
        (b"a/b; x=1; x=2; boundary=c", {"x"}),
        (b"a/b; name=x; name*=utf-8''y", {"name"}),
        (b"a/b; name*1=x", {"name"}),
        (b"a/b; name=x y.txt; charset=", {"name", "charset"}),
        (b"a/b; boundary=x; boundary*0=y", {"boundary"}),
        (b"a/b; boundary=x; BOUNDARY=y", {"boundary"}),
        (b"a/b; x=y boundary=c", {""}),
        (b'a/b; x=y"; boundary=c', {""}),
        (b'a/b; x="y; boundary=c', {""}),
        (b"a/b x; boundary=c", {""}),
        (b"a/b (; boundary=c", {""}),
        (b"a", {""}),
        (b"a/b; x=" + b"y" * MAX_VALUE, {""}),
    ],
)
def test_what_a_fault_is_about(value: bytes, doubtful: set[str]) -> None:
    assert parse_media_type(value).doubtful == doubtful
