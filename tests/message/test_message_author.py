"""The author: mail that shows one sender to a person and another to us has none."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.message.address import Address
from mailsigil.message.author import Author, AuthorFault, parse_author
from mailsigil.message.fields import Field
from stopwatch import work_of_less_than

ALICE = Address("alice", "bank.example")
SPEC = "alice@bank.example"
SEVERAL_FIELDS = AuthorFault.SEVERAL_FIELDS
SEVERAL_ADDRESSES = AuthorFault.SEVERAL_ADDRESSES
GROUP = AuthorFault.GROUP
MALFORMED = AuthorFault.MALFORMED
DECEPTIVE = AuthorFault.DECEPTIVE_NAME


def author_of(value: str | bytes) -> Author | AuthorFault:
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return parse_author(
        [Field(b"Subject", b" From: x@y"), Field(b"From", b" " + raw), Field(b"To", b" b@c.example")]
    )


def encoded(data: bytes, charset: str = "utf-8") -> str:
    return f"=?{charset}?b?{base64.b64encode(data).decode()}?="


NAMES = {
    "bare": (SPEC, ""),
    "brackets-only": (f"<{SPEC}>", ""),
    "spaces-in-brackets": (f"< {SPEC} >", ""),
    "phrase": (f"Alice Example <{SPEC}>", "Alice Example"),
    "no-space": (f"Alice<{SPEC}>", "Alice"),
    "initial": (f"Alice Q. Example <{SPEC}>", "Alice Q. Example"),
    "quoted": (f'"Example, Alice (Bank): <x>; [y]" <{SPEC}>', "Example, Alice (Bank): <x>; [y]"),
    "escaped": (rf'"Alice \"Al\" Example" <{SPEC}>', 'Alice "Al" Example'),
    "quoted-then-atom": (f'"Alice" Example <{SPEC}>', "Alice Example"),
    "apostrophe": (f"Alice O'Neill <{SPEC}>", "Alice O'Neill"),
    "comment": (f"{SPEC} (Alice (Al) Example)", "Alice (Al) Example"),
    "comment-beside-phrase": (f"Alice (Bank) <{SPEC}> (x)", "Alice"),
    "utf8": (f"Jürgen <{SPEC}>", "Jürgen"),
    "emoji-joined": (f"👩\u200d💻 <{SPEC}>", "👩\u200d💻"),
    "q-word": (f"=?iso-8859-1?Q?J=FCrgen_M?= <{SPEC}>", "Jürgen M"),
    "b-words": (f"{encoded('Jür'.encode())} {encoded(b'gen')} <{SPEC}>", "Jürgen"),
    "character-cut-in-two": (
        f"{encoded(b'J' + bytes([0xC3]))} {encoded(bytes([0xBC]) + b'r')} <{SPEC}>",
        "Jür",
    ),
    "language": (f"=?utf-8*de?q?J=C3=BC?= <{SPEC}>", "Jü"),
    "word-in-quotes": (f'"=?utf-8?q?J=C3=BC?=" <{SPEC}>', "Jü"),
    "comma-in-word": (f"=?utf-8?q?Example=2C_Alice?= <{SPEC}>", "Example, Alice"),
    "japanese": (f"{encoded('山田'.encode('iso-2022-jp'), 'ISO-2022-JP')} <{SPEC}>", "山田"),
    "own-address-as-name": (f'"{SPEC}" <{SPEC}>', SPEC),
    "own-address-unquoted": (f"Alice@Bank.Example <{SPEC}>", "Alice@Bank.Example"),
    "own-address-in-list-form": (f"\"'{SPEC}' via List\" <{SPEC}>", f"'{SPEC}' via List"),
    "own-address-encoded": (f"=?utf-8?q?alice=40bank.example?= <{SPEC}>", SPEC),
    "own-address-in-comment": (f"Alice <{SPEC}> ({SPEC})", "Alice"),
    "quoted-local": ('"alice"@bank.example', ""),
}


@pytest.mark.parametrize(("value", "name"), NAMES.values(), ids=NAMES.keys())
def test_one_author(value: str, name: str) -> None:
    assert author_of(value) == Author(ALICE, name)


def test_folds_vanish() -> None:
    assert author_of(f'\r\n "Alice\r\n Example"\r\n\t<{SPEC}>') == Author(ALICE, "Alice Example")


OTHER_ADDRESSES = [
    pytest.param("ceo%bank.example@evil.example", Address("ceo%bank.example", "evil.example"), id="percent"),
    pytest.param("bank.example!ceo@evil.example", Address("bank.example!ceo", "evil.example"), id="bang"),
    pytest.param("jürgen@bücher.example", Address("jürgen", "xn--bcher-kva.example"), id="utf8"),
    pytest.param("B <info@bücher.example>", Address("info", "xn--bcher-kva.example"), id="utf8-domain"),
    pytest.param(
        '"info@bücher.example" <info@xn--bcher-kva.example>',
        Address("info", "xn--bcher-kva.example"),
        id="own-in-utf8",
    ),
    pytest.param("\u0430lice@bank.example", Address("\u0430lice", "bank.example"), id="cyrillic-is-another"),
]


@pytest.mark.parametrize(("value", "address"), OTHER_ADDRESSES)
def test_the_address_is_what_stands_there(value: str, address: Address) -> None:
    found = author_of(value)
    assert isinstance(found, Author)
    assert found.address == address
    assert not found.address.same_mailbox(ALICE)


CEO = "ceo@bank.example"
EVIL = "<x@evil.example>"
FAULTS: dict[str, tuple[str | bytes, AuthorFault]] = {
    # Several, groups, nothing
    "two": (f"{CEO}, x@evil.example", SEVERAL_ADDRESSES),
    "two-with-names": (f"CEO <{CEO}>, X {EVIL}", SEVERAL_ADDRESSES),
    "two-by-semicolon": (f"{CEO}; x@evil.example", SEVERAL_ADDRESSES),
    "two-by-space": (f"{CEO} x@evil.example", SEVERAL_ADDRESSES),
    "two-brackets": (f"<{CEO}> {EVIL}", SEVERAL_ADDRESSES),
    "two-touching": (f"<{CEO}>{EVIL}", SEVERAL_ADDRESSES),
    "two-in-brackets": (f"<{CEO},x@evil.example>", SEVERAL_ADDRESSES),
    "same-twice": (f"{SPEC}, {SPEC}", SEVERAL_ADDRESSES),
    "group": (f"Board: {CEO};", GROUP),
    "empty-group": ("undisclosed:;", GROUP),
    "group-and-address": (f"Board: {CEO};, {EVIL}", GROUP),
    "empty": ("", MALFORMED),
    "empty-brackets": ("CEO <>", MALFORMED),
    "no-address": ("CEO", MALFORMED),
    "null-member": (f"{SPEC},", MALFORMED),
    "comma-in-phrase": (f"Example, Alice <{SPEC}>", MALFORMED),
    # Forms that parsers read differently
    "route": (f"<@evil.example:{CEO}>", MALFORMED),
    "route-of-two": (f"<@a.example,@b.example:{CEO}>", MALFORMED),
    "text-behind": (f"<{SPEC}> CEO", MALFORMED),
    "name-without-brackets": (f"CEO {SPEC}", MALFORMED),
    "quoted-name-without-brackets": (f'"CEO" {SPEC}', MALFORMED),
    "empty-name-without-brackets": (f'"" {SPEC}', MALFORMED),
    "word-before-address-as-name": (f"CEO {SPEC} <{SPEC}>", MALFORMED),
    "comment-in-address": ("alice(x)@bank.example", MALFORMED),
    "comment-in-brackets": ("<alice@bank.example(x)>", MALFORMED),
    "comment-in-domain": ("<alice@bank(x).example>", MALFORMED),
    "space-at-at": ("alice @ bank.example", MALFORMED),
    "two-ats": ("<ceo@bank.example@evil.example>", MALFORMED),
    "brackets-in-brackets": (f"<<{SPEC}>>", MALFORMED),
    "open-bracket": (f"Alice <{SPEC}", MALFORMED),
    "close-bracket": (f"{SPEC}>", MALFORMED),
    "open-quote": (f'"Alice <{SPEC}>', MALFORMED),
    "open-comment": (f"Alice ( <{SPEC}>", MALFORMED),
    "close-comment": (f"Alice ) <{SPEC}>", MALFORMED),
    "comment-closed-late": (rf"(\) <{CEO}> {EVIL}", MALFORMED),
    "nested-comment-with-a-comma": (f"( (CEO) ,) <{SPEC}>", MALFORMED),
    "nested-comment-with-brackets": (f"{SPEC} (a (b) <c>)", MALFORMED),
    "deep-comments": (f"{SPEC} (((((((x)))))))", MALFORMED),
    "escape-outside": (rf"Alice\ Example <{SPEC}>", MALFORMED),
    "literal": ("alice@[192.0.2.1]", MALFORMED),
    "dots": ("alice..b@bank.example", MALFORMED),
    "encoded-local": ("<=?utf-8?q?alice?=@bank.example>", MALFORMED),
    "encoded-address": ("=?utf-8?q?alice@bank.example?=", MALFORMED),
    "full-width-at-as-at": ("alice\uff20bank.example", MALFORMED),
    "too-long": (f'"{"a" * 3000}" <{SPEC}>', MALFORMED),
    "too-long-by-spaces": (f"CEO{' ' * 3000}<{SPEC}>", MALFORMED),
    # Octets
    "latin1": (b"J\xfcrgen <alice@bank.example>", MALFORMED),
    "overlong-utf8": (b"\xc1\x80 <alice@bank.example>", MALFORMED),
    "nul": (f"CEO\0 <{SPEC}>", MALFORMED),
    "nul-behind": (f"<{SPEC}>\0", MALFORMED),
    "bare-cr": (f"CEO\r<{SPEC}>", MALFORMED),
    "bare-lf": (f"CEO\n<{SPEC}>", MALFORMED),
    "crlf-without-fold": (f"CEO\r\n<{SPEC}>", MALFORMED),
    "blank-fold": (f"CEO <{CEO}>\r\n \r\n {EVIL}", MALFORMED),
    "blank-fold-at-end": (f"<{SPEC}>\r\n ", MALFORMED),
    "escape-character": (f"\x1b[31mCEO <{SPEC}>", MALFORMED),
    "c1": (f"CEO\x85 <{SPEC}>", MALFORMED),
    "line-separator": (f"CEO\u2028 <{SPEC}>", MALFORMED),
    "bidi-override": (f"\u202eelpmaxe <{SPEC}>", MALFORMED),
    "bidi-isolate": (f'"a\u2066b" <{SPEC}>', MALFORMED),
    "bidi-encoded": (f"{encoded(chr(0x202E).encode())} <{SPEC}>", MALFORMED),
    "line-break-encoded": (f"=?utf-8?q?CEO=0D=0AFrom=3A?= <{SPEC}>", MALFORMED),
    "nul-encoded": (f"=?utf-8?q?CEO=00?= <{SPEC}>", MALFORMED),
    # What cannot be foreseen
    "unknown-charset": (f"=?x-own?q?CEO?= <{SPEC}>", MALFORMED),
    "utf16-without-order": (f"{encoded(b'c' + bytes(1) + b'@' + bytes(1), 'utf-16')} <{SPEC}>", MALFORMED),
    "bad-octets": (f"=?utf-8?q?=FF?= <{SPEC}>", MALFORMED),
    "bad-base64": (f"=?utf-8?b?Y2V*?= <{SPEC}>", MALFORMED),
    "base64-going-on": (f"=?utf-8?b?Y2V=Y2V=?= <{SPEC}>", MALFORMED),
    "word-without-end": (f"=?utf-8?q?ceo=40bank.example <{SPEC}>", MALFORMED),
    # Names that show an address
    "name": (f'"{CEO}" {EVIL}', DECEPTIVE),
    "name-unquoted": (f"{CEO} {EVIL}", DECEPTIVE),
    "name-with-brackets": (f'"CEO <{CEO}>" {EVIL}', DECEPTIVE),
    "name-with-escape": (rf'"ceo\@bank.example" {EVIL}', DECEPTIVE),
    "name-with-escaped-quote": (rf'"\"{CEO}\" " {EVIL}', DECEPTIVE),
    "name-and-own": (f'"{CEO} x@evil.example" {EVIL}', DECEPTIVE),
    "own-with-prefix": (f'"ceo.{SPEC}" <{SPEC}>', DECEPTIVE),
    "own-with-suffix": (f'"{SPEC}.evil.example" <{SPEC}>', DECEPTIVE),
    "own-glued-by-thin-space": (f'"ceo\u200a{SPEC}" <{SPEC}>', DECEPTIVE),
    "own-glued-by-zero-width": (f'"ceo\u200b{SPEC}" <{SPEC}>', DECEPTIVE),
    "own-glued-by-apostrophe": (f'"ceo\'{SPEC}" <{SPEC}>', DECEPTIVE),
    "own-after-two-apostrophes": (f"\"''{SPEC}\" <{SPEC}>", DECEPTIVE),
    "own-unquoted-in-apostrophes": (f"'{SPEC}' <{SPEC}>", DECEPTIVE),
    "at-alone": (f'"ceo @ bank.example" {EVIL}', DECEPTIVE),
    "comment": (f"x@evil.example ({CEO})", DECEPTIVE),
    "comment-nested": (f"X {EVIL} (a (b {CEO}))", DECEPTIVE),
    "comment-before": (f"({CEO}) {EVIL}", DECEPTIVE),
    "full-width": (f'"ceo\uff20bank.example" {EVIL}', DECEPTIVE),
    "small": (f'"ceo\ufe6bbank.example" {EVIL}', DECEPTIVE),
    "circled-a": (f'"ceo\u24d0bank.example" {EVIL}', DECEPTIVE),
    "utf8-unquoted": (f"ceo\uff20bank.example {EVIL}", DECEPTIVE),
    "local-part": ('"ceo@bank.example"@evil.example', DECEPTIVE),
    "local-part-in-brackets": ('CEO <"ceo@bank.example"@evil.example>', DECEPTIVE),
    # The same, encoded
    "q-word": (f"=?utf-8?q?ceo=40bank.example?= {EVIL}", DECEPTIVE),
    "q-word-raw-at": (f"=?utf-8?q?ceo@bank.example?= {EVIL}", DECEPTIVE),
    "b-word": (f"{encoded(CEO.encode())} {EVIL}", DECEPTIVE),
    "b-word-without-padding": (f"=?utf-8?B?Y2VvQGI?= {EVIL}", DECEPTIVE),
    "b-word-with-space": (f"=?utf-8?B?Y2Vv QGI=?= {EVIL}", DECEPTIVE),
    "word-in-quotes": (f'"=?utf-8?q?ceo=40bank.example?=" {EVIL}', DECEPTIVE),
    "word-with-escape-in-quotes": (rf'"=?utf-8?q?ceo\=40bank?=" {EVIL}', DECEPTIVE),
    "word-glued": (f"a=?utf-8?q?ceo=40bank?=b {EVIL}", DECEPTIVE),
    "word-with-spaces": (f'"=?utf-8?q?ceo =40 bank?=" {EVIL}', DECEPTIVE),
    "word-with-question-mark": (f'"=?utf-8?q?who?ceo=40bank?=" {EVIL}', DECEPTIVE),
    "word-without-charset": (f'"=??q?ceo=40bank?=" {EVIL}', DECEPTIVE),
    "word-folded": (f'"=?utf-8?q?ceo=40\r\n bank?=" {EVIL}', DECEPTIVE),
    "word-in-comment": ("x@evil.example (=?utf-8?q?ceo=40bank.example?=)", DECEPTIVE),
    "word-over-quotes": (f'=?utf-8?q?ceo"=40"bank?= {EVIL}', DECEPTIVE),
    "words-with-comment-between": (f"=?utf-8?q?ceo?=(x)=?utf-8?q?=40bank?= {EVIL}", DECEPTIVE),
    "full-width-cut-in-two": (
        f"{encoded(b'ceo' + bytes([0xEF, 0xBC]))} {encoded(bytes([0xA0]))} {EVIL}",
        DECEPTIVE,
    ),
    "full-width-in-japanese": (
        f"{encoded('ceo＠bank'.encode('iso-2022-jp'), 'iso-2022-jp')} {EVIL}",
        DECEPTIVE,
    ),
    "full-width-in-chinese": (f"{encoded('ceo＠bank'.encode('gbk'), 'gb2312')} {EVIL}", DECEPTIVE),
    "utf7": (f"=?utf-7?q?ceo+AEA-bank.example?= {EVIL}", DECEPTIVE),
    "utf16": (f"{encoded('ceo@b'.encode('utf-16-be'), 'utf-16be')} {EVIL}", DECEPTIVE),
    "word-in-word": (f"{encoded(b'=?utf-8?q?ceo=40bank?=')} {EVIL}", DECEPTIVE),
    "word-in-word-in-word": (f"{encoded(encoded(encoded(b'ceo@bank').encode()).encode())} {EVIL}", DECEPTIVE),
    "word-made-of-two": (f"=?utf-8?q?=3D=3Futf-8=3Fq=3Fceo?= =?utf-8?q?=3D40bank=3F=3D?= {EVIL}", DECEPTIVE),
    "words-too-deep": (
        f"{encoded(encoded(encoded(encoded(encoded(b'x').encode()).encode()).encode()).encode())} {EVIL}",
        DECEPTIVE,
    ),
}


@pytest.mark.parametrize(("value", "fault"), FAULTS.values(), ids=FAULTS.keys())
def test_no_author(value: str | bytes, fault: AuthorFault) -> None:
    assert author_of(value) == fault


ONE = Field(b"From", b" " + SPEC.encode())
HEADERS = {
    "none": (
        [Field(b"To", b" a@b"), Field(b"Resent-From", b" a@b"), Field(b"X-From", b" a@b")],
        AuthorFault.MISSING,
    ),
    "twice": ([ONE, ONE], SEVERAL_FIELDS),
    "twice-other-case": ([ONE, Field(b"FROM", b" x@evil.example")], SEVERAL_FIELDS),
    "space-before-colon": ([Field(b"From ", ONE.value)], MALFORMED),
    "second-with-space": ([ONE, Field(b"From \t", b" x@evil.example")], SEVERAL_FIELDS),
    "second-with-nul": ([ONE, Field(b"From\0", b" x@evil.example")], SEVERAL_FIELDS),
    "second-with-nul-inside": ([ONE, Field(b"Fr\0om", b" x@evil.example")], SEVERAL_FIELDS),
    "second-with-bom": ([Field(b"\xef\xbb\xbfFrom", b" x@evil.example"), ONE], SEVERAL_FIELDS),
    "second-with-hard-space": ([ONE, Field(b"From\xc2\xa0", b" x@evil.example")], SEVERAL_FIELDS),
    "second-behind-bare-lf": ([ONE, Field(b"Subject", b" a\nFrom: x@evil.example")], SEVERAL_FIELDS),
    "second-behind-bare-cr": ([ONE, Field(b"Subject", b" a\rfrom : x@evil.example")], SEVERAL_FIELDS),
    "second-behind-two-bare-lf": ([ONE, Field(b"Subject", b" a\n\n\nFROM:x@evil.example")], SEVERAL_FIELDS),
    "second-behind-crlf": ([ONE, Field(b"Subject", b" a\r\nFrom: x@evil.example")], SEVERAL_FIELDS),
    "second-in-own-value": ([Field(b"From", ONE.value + b"\nFrom: x@evil.example")], SEVERAL_FIELDS),
}


@pytest.mark.parametrize(("fields", "fault"), HEADERS.values(), ids=HEADERS.keys())
def test_fields_that_only_some_readers_see(fields: list[Field], fault: AuthorFault) -> None:
    assert parse_author(fields) == fault


def test_a_fold_and_a_mere_mention_are_no_field() -> None:
    fields = [Field(b"Subject", b" a\r\n From: x@evil.example"), Field(b"X", b" From: y@z"), ONE]
    assert parse_author(iter(fields)) == Author(ALICE, "")


_PIECES = st.sampled_from(
    [
        *'ab.@<>(),:;"\\[] \t',
        SPEC,
        CEO,
        "=?utf-8?q?",
        "?=",
        "=40",
        "=?",
        "\r\n ",
        "\n",
        "ü",
        "＠",
        "\u202e",
        "\0",
        "'",
    ]
)


@settings(max_examples=400)
@given(st.lists(_PIECES, max_size=14).map("".join))
def test_any_text_gives_a_verdict_that_shows_one_address(value: str) -> None:
    found = author_of(value)
    if isinstance(found, Author):
        shown = found.display_name.replace("'", " ").replace('"', " ")
        assert CEO not in shown or str(found.address) == CEO


@given(st.binary(max_size=60))
def test_any_octets_give_a_verdict(value: bytes) -> None:
    assert isinstance(author_of(value), Author | AuthorFault)


SLOW = [
    "(",
    '"',
    "<",
    "a",
    "a.",
    "a ",
    '""',
    "a@",
    "@",
    "=?a?q?",
    "=?a?q?b?=",
    "é",
    "\ufdfa@",
    "()",
    "\\",
    "a@b ",
]


@pytest.mark.parametrize("piece", SLOW)
@pytest.mark.parametrize(
    "around", [("", ""), ('"', '" <a@b>'), ("(", ") a@b"), ("", "?= <a@b>")], ids=range(4)
)
def test_time_is_bounded(piece: str, around: tuple[str, str]) -> None:
    filling = piece * (2000 // len(piece.encode()))
    with work_of_less_than(0.25):
        author_of(around[0] + filling + around[1])


@pytest.mark.parametrize("piece", [b"\r", b"\n", b"\r ", b"\xff", b"\rfrom", b"\rfrom ", b"from"])
def test_time_is_bounded_for_the_other_fields_of_a_header(piece: bytes) -> None:
    """A header may have a quarter of a megabyte, and no other message of the worker moves meanwhile."""
    filling = piece * (250_000 // len(piece))
    with work_of_less_than(0.25):
        assert parse_author([ONE, Field(b"X", b" \r" + filling)]) == Author(ALICE, "")
        assert parse_author([Field(b"From", ONE.value + filling)]) == MALFORMED
