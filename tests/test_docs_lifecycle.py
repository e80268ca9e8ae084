"""packaging/LIFECYCLE.md is followed: its settings load, its commands run, its database is made."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cryptography import x509

from cli.test_cli_sync import Site
from conftest import ROOT
from fences import fences
from mailsigil.config.lifecycle import LifecycleSettings
from mailsigil.config.loading import load_settings
from mailsigil.demo.postgresql import Postgresql
from mailsigil.demo.programs import DemoError
from mailsigil.lifecycle.database import connect
from mailsigil.lifecycle.sealing import load_seal
from mailsigil.lifecycle.upgrade import upgrade

PAGE = ROOT / "packaging" / "LIFECYCLE.md"
BLOCKS = fences(PAGE)
SHELL = [block for block in BLOCKS if block.language == "sh"]
SETTINGS = [block for block in BLOCKS if block.language == "toml"]


@pytest.mark.parametrize("block", SETTINGS, ids=lambda block: f"line {block.line}")
def test_each_snippet_is_a_configuration(block: object, tmp_path: Path) -> None:
    path = tmp_path / "mailsigil.toml"
    path.write_text(block.text)  # type: ignore[attr-defined]
    assert load_settings(path).lifecycle.enabled


def test_every_setting_that_the_page_names_is_one() -> None:
    known = set(
        re.findall(r"^#([a-z_]+) = ", (ROOT / "packaging" / "mailsigil.toml").read_text(), re.MULTILINE)
    )
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", text))
    assert len(named) > 10
    assert named <= known


def test_all_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = PAGE.parent / path
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}, link


def test_the_front_page_leads_here() -> None:
    assert "(packaging/LIFECYCLE.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="sqlite3 is not installed")
@pytest.mark.integration
def test_the_commands_are_followed(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for uid, name in (("alice", "Alice Example"), ("bob", "Bob Sample")):
        site.bank.hire(uid, name)
    site.write()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "mailsigil"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m mailsigil "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "milter"),
        "MAILSIGIL_CONFIG": str(tmp_path / "mailsigil.toml"),
    }
    told = ""
    for block in SHELL:
        text = block.text.replace("/var/lib/mailsigil/keyd/lifecycle.db", f"{tmp_path}/db/l.db")
        # What the machine lacks (the milter's host name, users) is no business of this page.
        text = text.replace("mailsigil check\n", "mailsigil check || true\n")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout.decode()}{done.stderr.decode()}"
        told += done.stdout.decode()
    assert "2 sign: 2 V4" in told
    assert "error: lifecycle" not in told
    assert len(list((tmp_path / "public").glob("*.pem"))) == 2
    x509.load_pem_x509_certificate((tmp_path / "public" / "alice@bank.example.pem").read_bytes())
    assert "alice@bank.example, serial" in told
    assert load_seal(str(tmp_path / "shared-keys")) is not None
    copy = tmp_path / "lifecycle-backup.db"
    with connect(LifecycleSettings(database=f"sqlite:///{copy}")) as database:
        upgrade(database)


@pytest.mark.integration
def test_the_database_is_made_as_the_page_says(tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if block.language == "sql"]
    (settings,) = [tomllib.loads(each.text)["lifecycle"] for each in SETTINGS if "postgresql" in each.text]
    password = tmp_path / "password"
    password.write_text("the password\n")
    password.chmod(0o600)
    try:
        server = Postgresql()
    except DemoError as error:
        pytest.skip(str(error))
    with server:
        # The server of the tests has a role and a database of this name already.
        for statement in block.text.replace("mailsigil", "ours").split(";\n"):
            if statement.strip():
                server.statement(statement, database="postgres")
        assert settings["database"].startswith("postgresql://mailsigil@")
        url = f"postgresql://ours@127.0.0.1:{server.port}/ours"
        with connect(LifecycleSettings(database=url, password_file=str(password))) as database:
            upgrade(database)
            assert database.clock() is not None
