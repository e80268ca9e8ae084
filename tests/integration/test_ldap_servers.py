"""Real slapd servers: how we log in, how fast another takes over, what bad data does, who hears of whom."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from integration.ldap_house import EXAMPLE, bank_data, slapd
from mailsigil.cli.check import command as check
from mailsigil.cli.explain import command as explain
from mailsigil.config.loading import load_settings
from mailsigil.demo.bank import FRAME, ORGANISATION, directory_lines, schema_file
from mailsigil.demo.slapd import ADMIN, PASSWORD, SUFFIX, Slapd
from mailsigil.directory.api import Directory, DirectoryUnavailable
from mailsigil.directory.opening import open_directory
from mailsigil.policy.entitlement import entitlement
from mailsigil.policy.model import SigningMode
from mailsigil.policy.resolve import resolve

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("ldap")]

ALICE = "alice@bank.example"


def _open(folder: Path, lines: str, *more: str) -> Directory:
    return open_directory(load_settings(_config(folder, lines, *more)))


def _config(folder: Path, lines: str, *more: str) -> Path:
    policy, config = folder / "policy.toml", folder / "mailsigil.toml"
    policy.write_text("")
    tables = "".join(f"[[directory]]\n{one}" for one in (lines, *more))
    config.write_text(f'[policy]\nfile = "{policy}"\n{tables}')
    return config


def _seconds_to_answer(directory: Directory) -> float:
    started = time.monotonic()
    assert directory.person_by_login("alice") is not None
    return time.monotonic() - started


# --- Failover -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
def test_another_server_takes_over_within_half_a_second(tmp_path: Path, blow: signal.Signals) -> None:
    with slapd(tmp_path / "one") as one, slapd(tmp_path / "two") as two:
        directory = _open(tmp_path, directory_lines(one, two, cache_seconds=0))
        _seconds_to_answer(directory)
        os.kill(one.pid, blow)
        try:
            assert _seconds_to_answer(directory) < 0.5
            assert _seconds_to_answer(directory) < 0.1, "the server that failed is left alone"
        finally:
            os.kill(one.pid, signal.SIGCONT if blow is signal.SIGSTOP else 0)


def test_servers_that_are_away_cost_no_time_and_come_back(tmp_path: Path) -> None:
    with slapd(tmp_path / "one") as server:
        directory = _open(tmp_path, directory_lines(server, cache_seconds=0, grace_seconds=0))
        _seconds_to_answer(directory)
        server.kill()
        with pytest.raises(DirectoryUnavailable):
            directory.person_by_login("alice")
        started = time.monotonic()
        for _ in range(100):
            with pytest.raises(DirectoryUnavailable):
                directory.person_by_login("alice")
        assert time.monotonic() - started < 0.5
        server.start()
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            try:
                directory.person_by_login("alice")
                return
            except DirectoryUnavailable:
                time.sleep(0.1)
        pytest.fail("the directory did not come back")


# --- Logging in -----------------------------------------------------------------------------------------


class Pki:
    """An authority, a server's certificate for localhost, and a client's."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test Root")])
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._issue(self._name, self._key.public_key(), ca=True))
        self.server = self._leaf(folder, "localhost")
        self.client = self._leaf(folder, "mailsigil")

    def _leaf(self, folder: Path, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, file = folder / f"{name}.pem", folder / f"{name}.key"
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate.write_bytes(self._issue(subject, key.public_key(), ca=False))
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, file

    def _issue(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool) -> bytes:
        now = datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(names, critical=False)
            # Python 3.13 verifies by RFC 5280 to the letter: both identifiers, and what an authority may do.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .add_extension(_usage(ca=ca), critical=True)
            .sign(self._key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Slapd]:
    """A server that lets only those read who have logged in."""
    with Slapd(
        tmp_path_factory.mktemp("closed"),
        schemas=[schema_file()],
        data=bank_data(),
        certificate=pki.server[0],
        key=pki.server[1],
        ca=pki.ca,
        readers="users",
    ) as server:
        yield server


@pytest.mark.parametrize("way", ["ldaps", "starttls", "tls client certificate", "ldapi as this user"])
def test_ways_to_log_in(tmp_path: Path, closed: Slapd, pki: Pki, way: str) -> None:
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    simple = {"bind": "simple", "bind_dn": ADMIN, "password_file": str(password), "ca_file": str(pki.ca)}
    certificate = {"client_certificate": str(pki.client[0]), "client_key": str(pki.client[1])}
    keys: dict[str, object] = {
        "ldaps": {"servers": [closed.tls_url], **simple},
        "starttls": {"servers": [f"ldap://localhost:{closed.port}"], **simple},
        "tls client certificate": {
            "servers": [closed.tls_url],
            "bind": "external",
            "ca_file": str(pki.ca),
            **certificate,
        },
        "ldapi as this user": {"servers": [closed.ldapi_url], "bind": "external"},
    }[way]
    directory = _open(tmp_path, directory_lines(closed, encryption="required", **keys))  # type: ignore[arg-type]
    assert directory.person_by_login("alice") is not None


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        pytest.param({"ca_file": ""}, "ertificate", id="an authority that is not trusted"),
        pytest.param({"servers": ["ldaps://127.0.0.1:{tls}"]}, "match", id="another name"),
        pytest.param({"password": "wrong"}, "login was refused", id="wrong password"),
        pytest.param({"password": ""}, "is empty", id="empty password"),
        pytest.param({"people_base": "ou=absent," + SUFFIX}, "hidden from this login", id="absent base"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_known(
    tmp_path: Path, closed: Slapd, pki: Pki, keys: dict[str, object], reason: str
) -> None:
    password = tmp_path / "password"
    password.write_text(str(keys.pop("password", PASSWORD)))
    servers = [str(one).format(tls=closed.tls_port) for one in keys.pop("servers", [closed.tls_url])]  # type: ignore[attr-defined]
    simple = {"bind": "simple", "bind_dn": ADMIN, "password_file": str(password)}
    more: dict[str, object] = {"servers": servers, "ca_file": str(pki.ca), **simple, **keys}
    directory = _open(tmp_path, directory_lines(closed, encryption="required", **more))
    with pytest.raises(DirectoryUnavailable, match=reason):
        directory.person_by_login("alice")


# --- Changes, and bad data ------------------------------------------------------------------------------


def test_the_shipped_example_loads_and_explains_itself(tmp_path: Path) -> None:
    with slapd(tmp_path / "ldap", [EXAMPLE.read_text()]) as server:
        config = _config(tmp_path, directory_lines(server))
        output = CliRunner().invoke(explain, ["--config", str(config), "bob@bank.example"]).output
        told = [" ".join(line.split()) for line in output.splitlines()]
        assert any(line.startswith("form opaque from cn=traders,ou=mailsigil") for line in told)
        assert any(line.startswith("signing required from cn=everybody signs,ou=mailsigil") for line in told)
        found = CliRunner().invoke(check, ["--config", str(config), "--json"]).output
        findings = [one for one in json.loads(found)["findings"] if "mailsigil," in one["subject"]]
        assert findings == []


def test_leaving_lapsing_and_renewing_take_effect_within_the_cache_time(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with slapd(tmp_path / "ldap") as server:
        directory = _open(tmp_path, directory_lines(server, cache_seconds=0.2, negative_seconds=0.2))

        def levels() -> set[str]:
            time.sleep(0.25)
            return {level.value for level in entitlement(directory.identity(ALICE), at=now).levels}

        bank = f"dn: cn=Example Bank,ou=mailsigil,{SUFFIX}\nreplace: mailsigilIdentityValidUntil\n"
        assert levels() == {"V1", "V2", "V3", "V4"}
        server.modify(f"{bank}mailsigilIdentityValidUntil: 20200101000000Z\n")
        assert levels() == {"V1", "V2"}
        server.modify(f"{bank}mailsigilIdentityValidUntil: 20381231235959Z\n")
        assert levels() == {"V1", "V2", "V3", "V4"}
        server.modify(f"dn: uid=alice,ou=people,{SUFFIX}\nchangetype: delete\n")
        assert directory.person_by_login("alice") is None
        assert levels() == {"V1"}


BAD = [
    FRAME,
    ORGANISATION,
    f"dn: uid=one,ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\nobjectClass: mailsigilPerson\nuid: one\n"
    "cn: One\nsn: One\nmail: same@bank.example\nmail: not an address\nmailsigilValidatedLevel: V7\n"
    "mailsigilSendAs: *\nmailsigilSendAs: *@other.example\n",
    f"dn: uid=two,ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\nuid: two\ncn: Two\nsn: Two\n"
    "mail: same@bank.example\n",
    f"dn: uid=three,ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\nobjectClass: mailsigilPerson\n"
    "uid: three\ncn: Three\nsn: Three\nmail: three@bank.example\nmailsigilValidatedLevel: V4\n"
    "description: next year\n",
    f"dn: cn=odd,ou=mailsigil,{SUFFIX}\nobjectClass: mailsigilPolicy\ncn: odd\n"
    f"mailsigilAppliesToDomain: bank.example\nmailsigilSigning: sometimes\nmailsigilLevel: V9\n",
    f"dn: cn=a,ou=mailsigil,{SUFFIX}\nobjectClass: mailsigilPolicy\ncn: a\nmailsigilForm: clear\n"
    f"mailsigilAppliesToGroup: cn=x,ou=groups,{SUFFIX}\n",
    f"dn: cn=b,ou=mailsigil,{SUFFIX}\nobjectClass: mailsigilPolicy\ncn: b\nmailsigilForm: opaque\n"
    f"mailsigilAppliesToGroup: cn=y,ou=groups,{SUFFIX}\n",
    f"dn: cn=x,ou=groups,{SUFFIX}\nobjectClass: groupOfNames\ncn: x\nmember: cn=y,ou=groups,{SUFFIX}\n",
    f"dn: cn=y,ou=groups,{SUFFIX}\nobjectClass: groupOfNames\ncn: y\nmember: cn=x,ou=groups,{SUFFIX}\n"
    f"member: uid=three,ou=people,{SUFFIX}\n",
]


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd(tmp_path_factory.mktemp("bad"), BAD) as server:
        yield server


# The schema's dates are checked by the server, so a date that is none needs another attribute.
_DATES = 'attributes = { validated_until = ["description"] }\n'


def test_bad_data_is_handled_by_the_safe_side_and_logged(
    tmp_path: Path, bad: Slapd, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(UTC)
    with caplog.at_level(logging.WARNING, "mailsigil.directory"):
        directory = _open(tmp_path, directory_lines(bad) + _DATES)
        # Two people with one address: nobody's, and nothing is signed.
        assert directory.person_by_address("same@bank.example") is None
        assert entitlement(directory.identity("same@bank.example"), at=now).levels == frozenset()
        # A date that is none: not validated. A mode that is none: signing is required.
        assert entitlement(directory.identity("three@bank.example"), at=now).levels == {"V1"}
        policy = resolve(directory.policies("three@bank.example"), at=now)
        assert policy.signing.value is SigningMode.REQUIRED
        # Two entries of one rank that disagree: the safer one, and it is told.
        assert policy.form.value == "clear"
        assert [conflict.setting for conflict in policy.conflicts] == ["form"]
        one = directory.person_by_login("one")
        assert one is not None
        assert one.may_send_as == ()
    for words in ("uid=two", "V7", "next year", "sometimes", "a group contains itself", "not an address"):
        assert any(words in message for message in caplog.messages), words
    assert all("=" in message.partition(": ")[2].partition(": ")[0] for message in caplog.messages)


@pytest.mark.parametrize(
    "words",
    [
        "the address same@bank.example belongs to",
        '"V7" is no level',
        '"next year" is no time',
        'mailsigilSigning is "sometimes"',
        'mailsigilLevel is "V9"',
        "a group contains itself",
        'disagrees with cn=b,ou=mailsigil,dc=bank,dc=example about "form"',
        '"not an address" is no mail address',
        '"*@other.example" is in no domain of this directory',
        "3 people, 2 groups, 3 policies, 1 organisations",
    ],
)
def test_bad_data_is_a_finding(tmp_path: Path, bad: Slapd, words: str) -> None:
    config = _config(tmp_path, directory_lines(bad) + _DATES)
    found = json.loads(CliRunner().invoke(check, ["--config", str(config), "--json"]).output)["findings"]
    assert any(words in one["sentence"] for one in found), [one["sentence"] for one in found]


# --- Tenants --------------------------------------------------------------------------------------------


def test_one_tenant_neither_harms_nor_speaks_for_another(tmp_path: Path) -> None:
    stranger = (
        f"dn: uid=mallory,ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\nuid: mallory\ncn: M\nsn: M\n"
        "mail: mallory@shop.example\nmail: alice@bank.example\nmail: alice@shop.example\n"
    )
    shop_policy = (
        f"dn: cn=grab,ou=mailsigil,{SUFFIX}\nobjectClass: mailsigilPolicy\ncn: grab\n"
        "mailsigilAppliesToEveryone: TRUE\nmailsigilSigning: never\nmailsigilPriority: 9999\n"
    )
    with slapd(tmp_path / "bank") as bank, slapd(tmp_path / "shop", [FRAME, stranger, shop_policy]) as shop:
        shop_lines = directory_lines(
            shop, name="shop", domains=["shop.example"], cache_seconds=0, grace_seconds=0
        )
        directory = _open(tmp_path, directory_lines(bank), shop_lines)
        now = datetime.now(UTC)
        owner = directory.person_by_address(ALICE)
        assert owner is not None
        assert owner.source.startswith("uid=alice")
        mallory = directory.person_by_login("mallory@shop.example")
        assert mallory is not None
        assert set(mallory.addresses) == {"mallory@shop.example", "alice@shop.example"}
        assert resolve(directory.policies(ALICE), at=now).signing.value is SigningMode.REQUIRED
        shop.kill()
        with pytest.raises(DirectoryUnavailable):
            directory.policies("mallory@shop.example")
        assert directory.person_by_login(ALICE) is not None
        assert resolve(directory.policies(ALICE), at=now).signing.value is SigningMode.REQUIRED
        assert directory.own_domains() == {"bank.example", "shop.example"}
