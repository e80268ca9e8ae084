"""``mailsigil check``: each thing that can be wrong around mailsigil, and its mend."""

from __future__ import annotations

import datetime
import functools
import getpass
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mailsigil.cli.ca import command as ca
from mailsigil.cli.check import command, everything

ROOT = Path(__file__).resolve().parent.parent.parent
USER = getpass.getuser()


def _authority(path: Path, *, until: datetime.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Example Root")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@functools.cache
def _key() -> bytes:
    """A key with its certificate, of an authority that is forgotten."""
    with tempfile.TemporaryDirectory() as folder:
        for arguments in (
            ["init", "--organisation", "Example"],
            ["issue", "--level", "V1", "--address", "alice@bank.example"],
        ):
            done = CliRunner().invoke(ca, [*arguments, "--dir", f"{folder}/ca"])
            assert done.exit_code == 0, done.output
        return Path(folder, "ca", "keys", "alice@bank.example.pem").read_bytes()


class House:
    """A complete installation under one folder."""

    def __init__(self, folder: Path) -> None:
        self.run, self.keys = folder / "run", folder / "keys"
        self.cache = folder / "cache"
        self.run.mkdir()
        self.keys.mkdir(mode=0o700)
        self.key = self.keys / "first.pem"
        self.key.touch(mode=0o600)
        self.key.write_bytes(_key())
        self.policy, self.root, self.config = folder / "policy.toml", folder / "root.pem", folder / "m.toml"
        shutil.copy(ROOT / "policies" / "example-policy.toml", self.policy)
        _authority(self.root, until=datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC))
        self.write()

    def write(self, more: str = "", *, trust: str | None = None, milter: str = "", keyd: str = "") -> None:
        default_trust = f'[[trust]]\nname = "Example"\nfiles = ["{self.root}"]\nasserts = ["mailsigil"]'
        keyd = keyd or f'allowed_users = ["{USER}"]'
        self.config.write_text(
            f'[milter]\nsocket = "unix:{self.run}/milter.sock"\n{milter}\n'
            f'[keyd]\nsocket = "{self.run}/keyd.sock"\nfolder = "{self.keys}"\n'
            f"{keyd}\n"
            f'[policy]\nfile = "{self.policy}"\n{more}\n{default_trust if trust is None else trust}\n'
            f'[revocation]\ncache_folder = "{self.cache}"\n',
            encoding="utf-8",
        )

    def check(self, *arguments: str) -> Result:
        return CliRunner().invoke(command, ["--config", str(self.config), *arguments])


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_good_house_has_no_findings(house: House) -> None:
    result = house.check()
    assert (result.exit_code, result.output) == (0, f"{house.config}: everything is in order\n")


def _expect(result: Result, severity: str, sentence: str, mend: str) -> None:
    lines = result.output.splitlines()
    (number,) = [n for n, line in enumerate(lines) if line.startswith(f"{severity}: ") and sentence in line]
    assert lines[number + 1].startswith("  mend: ")
    assert mend in lines[number + 1]
    assert result.exit_code == (2 if severity == "error" else 0)


def test_bad_configuration(house: House) -> None:
    house.write("wrokers = 1")
    _expect(house.check(), "error", 'unknown key "wrokers" in [policy]', f"edit {house.config}, line 10")


def test_absent_configuration(house: House) -> None:
    house.config.unlink()
    _expect(house.check(), "error", "No such file", f"edit {house.config}")


def test_bad_policy_file(house: House) -> None:
    house.policy.write_text('[default]\nsigning = "always"\n', encoding="utf-8")
    _expect(house.check(), "error", f'{house.policy}:2: "signing" in [default]', "line 2")


def test_policy_that_signs_nothing(house: House) -> None:
    house.policy.write_text("", encoding="utf-8")
    _expect(house.check(), "warning", "nobody's mail is signed", 'signing = "required"')


def test_a_group_of_no_directory(house: House) -> None:
    house.policy.write_text(f'{house.policy.read_text()}\n[[group]]\nname = "cn=traders,ou=elsewhere"\n')
    house.write(
        '[[directory]]\nname = "Bank"\ndomains = ["bank.example"]\nprofile = "openldap"\n'
        'servers = ["ldapi://%2Fnowhere%2Fldapi"]\nbind = "external"\npeople_base = "dc=bank,dc=example"'
    )
    sentence = 'applies to the group "cn=traders,ou=elsewhere", which stands below the group_base of no'
    assert sentence in (output := house.check().output), output


def test_no_trust(house: House) -> None:
    house.write(trust="")
    _expect(house.check(), "warning", "no authority is trusted", "[[trust]]")


def test_absent_anchor(house: House) -> None:
    house.root.unlink()
    _expect(house.check(), "error", f"{house.root}: cannot be read", '[[trust]] "Example"')


def test_anchor_that_is_none(house: House) -> None:
    house.root.write_text("hello", encoding="utf-8")
    _expect(house.check(), "error", "no readable certificate", '[[trust]] "Example"')


def test_expired_anchor(house: House) -> None:
    _authority(house.root, until=datetime.datetime(2020, 2, 3, tzinfo=datetime.UTC))
    _expect(house.check(), "warning", "CN=Example Root expired on 2020-02-03", "present certificate")


def test_absent_key_folder(house: House) -> None:
    shutil.rmtree(house.keys)
    _expect(house.check(), "error", f"{house.keys} does not exist", f"install -d -m 0700 {house.keys}")


def test_key_folder_that_others_write_to(house: House) -> None:
    house.keys.chmod(0o770)
    _expect(house.check(), "error", "may put keys into", f"chmod go-w {house.keys}")


def test_no_key(house: House) -> None:
    house.key.unlink()
    _expect(house.check(), "warning", f"there is no key in {house.keys}", "mailsigil ca issue")


def test_wrong_passphrase(house: House) -> None:
    key = serialization.load_pem_private_key(_key(), None)
    sealed = serialization.BestAvailableEncryption(b"right")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    certificates = _key()[_key().index(b"-----BEGIN CERTIFICATE") :]
    house.key.write_bytes(pem + certificates)
    opener = house.key.with_suffix(".pass")
    for passphrase, right in ((b"wrong", False), (b"right", True)):
        opener.touch(mode=0o600)
        opener.write_bytes(passphrase)
        said = house.check()
        assert ("everything is in order" in said.output) is right
        assert (str(house.keys) in said.output) is not right, said.output


def test_expired_key(house: House) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=400)
    (remark,) = [one for one in everything(house.config, now=later) if one.subject == str(house.key)]
    assert remark.sentence.startswith("the certificate expired on")
    assert remark.mend.startswith("Replace it")


@pytest.mark.parametrize("name", ["alice.key", "alice.p12", "alice.pem"])
def test_open_key_file(house: House, name: str) -> None:
    file = house.keys / name
    file.write_text("-----BEGIN PRIVATE KEY-----\n", encoding="ascii")
    file.chmod(0o640)
    _expect(house.check(), "error", f"{file}: holds a secret and is open", f"chmod 0600 {file}")


def test_open_certificate_is_no_finding(house: House) -> None:
    file = house.keys / "alice.pem"
    file.write_text("-----BEGIN CERTIFICATE-----\n", encoding="ascii")
    file.chmod(0o644)
    assert house.check().exit_code == 0


def test_absent_socket_folder(house: House) -> None:
    house.run.rmdir()
    result = house.check()
    assert result.output.count(f"the folder {house.run} does not exist") == 2
    assert result.exit_code == 2


def test_socket_folder_below_run_may_come_later(house: House) -> None:
    house.write(milter="", keyd="")
    text = house.config.read_text(encoding="utf-8")
    house.config.write_text(text.replace(f"unix:{house.run}", "unix:/run/mailsigil-absent"), encoding="utf-8")
    _expect(house.check(), "warning", "/run/mailsigil-absent does not exist", "systemd unit")


def test_open_socket_folder(house: House) -> None:
    house.run.chmod(0o777)
    result = house.check()
    assert f"chmod o-w {house.run}" in result.output
    assert result.exit_code == 2


def test_socket_folder_of_somebody_else(house: House) -> None:
    house.run.chmod(0o755)
    house.write(milter='user = "nobody"', keyd='allowed_users = ["nobody"]')
    if os.stat(house.run).st_uid == 0:
        _expect(
            house.check(), "error", 'the user "nobody" may not make a socket', f"chown nobody {house.run}"
        )


def test_absent_users(house: House) -> None:
    house.write(
        milter='user = "no-such-user"\nsocket_group = "no-such-group"',
        keyd='allowed_users = ["no-such-user"]\nuser = "no-such-agent"',
    )
    result = house.check()
    _expect(result, "error", 'the user "no-such-agent" does not exist', "adduser --system --group")
    _expect(result, "error", 'the group "no-such-group" does not exist', "postfix")


def test_one_user_for_both(house: House) -> None:
    house.write(milter=f'user = "{USER}"', keyd=f'user = "{USER}"\nallowed_users = ["{USER}"]')
    _expect(house.check(), "warning", "both run as", "a user of its own")


def test_socket_open_to_all(house: House) -> None:
    house.write(milter='socket_mode = "0666"')
    _expect(house.check(), "warning", "every user of this machine may talk", '"0660"')


@pytest.mark.parametrize("address", ["inet:127.0.0.1:8891", "inet:[::1]:8891"])
def test_socket_without_rights(house: House, address: str) -> None:
    house.write()
    text = house.config.read_text(encoding="utf-8")
    house.config.write_text(text.replace(f"unix:{house.run}/milter.sock", address), encoding="utf-8")
    _expect(house.check(), "warning", "claim to be any login", "unix socket")


def test_spool_folder(house: House) -> None:
    house.write(f'[limits]\nspool_directory = "{house.run}/absent"')
    _expect(house.check(), "error", "absent does not exist", "install -d -m 0700")


def test_json(house: House) -> None:
    house.write(trust="")
    (finding,) = json.loads(house.check("--json").output)["findings"]
    assert finding["severity"] == "warning"
    assert set(finding) == {"severity", "subject", "sentence", "mend"}


def test_changes_nothing(house: House) -> None:
    house.keys.chmod(0o777)
    before = subprocess.check_output(["ls", "-lR", house.config.parent])
    house.check()
    assert subprocess.check_output(["ls", "-lR", house.config.parent]) == before


def test_a_folder_for_revocation_that_cannot_be_written(house: House) -> None:
    house.cache.write_text("in the way")
    mend = f"install -d -m 0700 {house.cache}"
    _expect(
        house.check(), "warning", f"may not write to {house.cache}, so what is fetched is forgotten", mend
    )
    house.cache.unlink()
    house.cache.mkdir()
    assert "in order" in house.check().output


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is asked about, whose files only root can make")
def test_a_folder_for_revocation_that_belongs_to_somebody_else(house: House) -> None:
    house.cache.mkdir(mode=0o700)
    house.write(milter='user = "nobody"', keyd='allowed_users = ["nobody"]')
    found = house.check().output
    assert f'the user "nobody" may not write to {house.cache}' in found
    os.chown(house.cache, 65534, 65534)
    assert "may not write to" not in house.check().output


def test_without_questions_no_folder_for_revocation_is_needed(house: House) -> None:
    house.cache.write_text("in the way")
    trust = f'[[trust]]\nname = "Example"\nfiles = ["{house.root}"]\nrevocation = "off"'
    house.write(trust=trust)
    assert "revocation" not in house.check().output
