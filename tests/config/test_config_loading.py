"""Loading good files, and files that cannot be read at all."""

from __future__ import annotations

import os
import socket
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mailsigil.config.document import load_document
from mailsigil.config.errors import ConfigError, Finding
from mailsigil.config.example import example_settings, toml_value
from mailsigil.config.loading import load_settings
from mailsigil.config.settings import Settings
from mailsigil.config.sockets import SocketFamily, parse_socket
from mailsigil.config.sources import KINDS
from mailsigil.config.storage import HOLDERS

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "packaging" / "mailsigil.toml"


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "mailsigil.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_example_file_is_what_the_documentation_says() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == example_settings()


def test_example_file_gives_the_defaults() -> None:
    assert load_settings(EXAMPLE) == Settings()


def test_example_file_with_every_setting_gives_the_defaults(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    active = "\n".join(line[1:] if line[:1] == "#" and line[:2] != "# " else line for line in lines)
    loaded = load_settings(_write(tmp_path, active))
    assert loaded.trust[0].name == "Example Bank"
    assert loaded.directory[0].domains == ("bank.example",)
    assert {source.kind for source in loaded.source} == set(KINDS)
    assert {storage.kind for storage in loaded.storage} == set(HOLDERS)
    repeated = {"trust": (), "directory": (), "source": (), "storage": ()}
    assert loaded.model_copy(update=repeated) == Settings()
    for name, section in tomllib.loads(active).items():
        keys = set().union(*section) if name in repeated else section
        assert set(keys) == set(
            type(getattr(loaded, name)[0] if name in repeated else getattr(loaded, name)).model_fields
        )


def test_every_setting_is_documented() -> None:
    for name in Settings.model_fields:
        section = getattr(Settings(), name)
        for key, field in (type(section).model_fields if section else {}).items():
            assert field.description, f"{name}.{key}"


def test_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_settings(_write(tmp_path, "")) == Settings()


def test_byte_order_mark_and_crlf_are_read(tmp_path: Path) -> None:
    loaded = load_settings(_write(tmp_path, b"\xef\xbb\xbf[milter]\r\nworkers = 3\r\n"))
    assert loaded.milter.workers == 3


def test_lines_are_right_with_crlf(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(_write(tmp_path, b"[milter]\r\n\r\nwrokers = 3\r\n"))
    assert caught.value.findings[0].line == 3


def test_settings_are_frozen() -> None:
    loaded = Settings()
    with pytest.raises(ValidationError):
        loaded.milter.workers = 4  # type: ignore[misc]


def test_a_full_trust_entry(tmp_path: Path) -> None:
    text = (
        '[[trust]]\nname = "Private"\nfiles = ["/etc/a.pem", "/etc/b.pem"]\n'
        'oids = { "1.3.6.1.4.1.99999.1" = "V3" }\ndomains = ["bank.example", "*.bank.example"]\n'
    )
    (trust,) = load_settings(_write(tmp_path, text)).trust
    assert trust.files == ("/etc/a.pem", "/etc/b.pem")
    assert trust.oids == {"1.3.6.1.4.1.99999.1": "V3"}
    assert trust.domains == ("bank.example", "*.bank.example")


def test_host_name_stands_in_for_an_empty_authserv_id(tmp_path: Path) -> None:
    assert Settings().inbound.authserv_id == socket.gethostname()
    assert load_settings(
        _write(tmp_path, '[inbound]\nauthserv_id = "mx.example.com"\n')
    ).inbound.authserv_id == ("mx.example.com")


def test_networks_are_parsed() -> None:
    assert [str(network) for network in Settings().outbound.networks] == ["127.0.0.0/8", "::1/128"]


def test_absent_file_is_a_finding(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "absent.toml")
    assert str(caught.value) == (
        f"{tmp_path}/absent.toml: cannot be read: No such file or directory;"
        " correct the path or the file's rights"
    )


def test_folder_is_a_finding(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load_settings(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_is_a_finding(tmp_path: Path) -> None:
    path = _write(tmp_path, "")
    path.chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        load_settings(path)


def test_latin_1_is_a_finding_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mailsigil.toml:2: is not UTF-8; save the file as UTF-8"):
        load_settings(_write(tmp_path, b'[policy]\nfile = "/etc/K\xf6ln"\n'))


@pytest.mark.parametrize("depth", [10, 200, 300, 400, 430, 460, 490, 520, 50_000])
def test_deep_nesting_is_a_finding(tmp_path: Path, depth: int) -> None:
    with pytest.raises(ConfigError, match="too deep" if depth > 500 else "too deep|unknown"):
        load_settings(_write(tmp_path, "a = " + "[" * depth + "]" * depth))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_load_or_give_findings(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = _write(tmp_path_factory.getbasetemp(), data)
    findings: list[Finding] = []
    try:
        load_document(path, Settings)
    except ConfigError as error:
        findings = [*error.findings]
    assert all(finding.sentence.isprintable() for finding in findings)


@pytest.mark.parametrize(
    ("text", "family", "libmilter"),
    [
        pytest.param("unix:/run/x.sock", SocketFamily.UNIX, "unix:/run/x.sock", id="unix"),
        pytest.param("inet:127.0.0.1:8891", SocketFamily.INET, "inet:8891@127.0.0.1", id="inet"),
        pytest.param("inet:[::1]:8891", SocketFamily.INET6, "inet6:8891@::1", id="inet6-by-address"),
        pytest.param("inet6:[::1]:8891", SocketFamily.INET6, "inet6:8891@::1", id="inet6"),
    ],
)
def test_sockets(text: str, family: SocketFamily, libmilter: str) -> None:
    address = parse_socket(text)
    assert (address.family, address.libmilter) == (family, libmilter)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix",
        "unix:",
        "inet:",
        "inet:::1:25",
        "inet:127.0.0.1",
        "tcp:127.0.0.1:1",
        "inet:127.0.0.1:99999",
    ],
)
def test_no_sockets(text: str) -> None:
    with pytest.raises(ValueError, match=r"socket|port|listen"):
        parse_socket(text)


def test_unix_path_that_linux_would_refuse() -> None:
    with pytest.raises(ValueError, match="107 octets"):
        parse_socket("unix:/" + "x" * 107)


@given(
    st.recursive(
        st.text(st.characters(exclude_characters="\x7f", exclude_categories=["Cs"]))
        | st.integers(-(2**63), 2**63 - 1)
        | st.booleans(),
        lambda inner: st.lists(inner, max_size=3).map(tuple),
    )
)
@settings(max_examples=100, deadline=None)
def test_written_values_are_read_again(value: object) -> None:
    def plain(one: object) -> object:
        return [plain(inner) for inner in one] if isinstance(one, tuple) else one

    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == plain(value)
