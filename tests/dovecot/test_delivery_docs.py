"""What the pages beside the Sieve scripts and the clients show is what the files hold, and works."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT
from fences import fences
from mailsigil.config.loading import load_settings
from mailsigil.decryption import NotOpened
from mailsigil.delivery import Delivered
from mailsigil.demo.dovecot import Dovecot, wait_for_mail
from servers.dovecots import BOB, PASSWORD, ROOTS, deliver, imap
from servers.sieve import SCRIPTS, SIEVE, compile_scripts, open_folder, sieve_dovecot

CLIENTS = ROOT / "contrib" / "dovecot" / "clients"
HOST = "mx.test.example"
TEXT = "V4 Alice Example, Example Bank, Account Manager, Identity Validated and Trusted"
SIGNED = (
    f"Authentication-Results: {HOST}; smime=pass\r\nVerified-Identity: V4; status=trusted; name=x\r\n"
    f"Verified-Identity-Text: {TEXT}\r\nFrom: Alice Example <alice@bank.example>\r\n"
    "Subject: Your appointment\r\nDate: Sun, 22 Nov 2026 02:15:00 +0000\r\n\r\nSee you on Friday.\r\n"
)


def _keywords() -> set[str]:
    return {k for name in SCRIPTS for k in re.findall(r'addflag "(\$\w+)"', (SIEVE / name).read_text())}


def test_the_table_of_keywords_is_that_of_the_scripts() -> None:
    page = (SIEVE / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\$\w+)` \|", page, re.MULTILINE)) == _keywords()
    assert len(_keywords()) == 12


def test_every_word_of_the_log_is_explained() -> None:
    page = (SIEVE / "README.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(\w+)` \| (?:`([a-z-]+)`|the cipher) \|", page, re.MULTILINE))
    reasons = {reason.value for reason in NotOpened} | {"not-wanted", "unauthenticated", "directory", ""}
    assert {reason for _, reason in told} == reasons
    assert {word for word, _ in told} == {outcome.value for outcome in Delivered}


def test_every_client_knows_every_keyword() -> None:
    user_js = (CLIENTS / "thunderbird-user.js").read_text()
    small = {keyword.lower() for keyword in _keywords()}
    for what in ("tag", "color", "ordinal"):
        assert set(re.findall(rf'"mailnews\.tags\.(\$\w+)\.{what}"', user_js)) == small
    plugin = (CLIENTS / "roundcube" / "mailsigil" / "mailsigil.php").read_text()
    assert {f"${k}" for k in re.findall(r"'(\w+)' +=> \['", plugin)} == {k.upper() for k in _keywords()}
    assert set(re.findall(r'"(\$\w+)"', (CLIENTS / "mailsigil.neomuttrc").read_text())) == _keywords()


def test_both_files_for_thunderbird_say_the_same() -> None:
    text = (CLIENTS / "thunderbird-user.js").read_text()
    lines = re.findall(r'^user_pref\("(.+?)", "(.+?)"\);$', text, re.MULTILINE)
    assert len(lines) == text.count("user_pref(")
    policies = json.loads((CLIENTS / "thunderbird-policies.json").read_text())
    expected = {name: {"Value": value, "Status": "default", "Type": "string"} for name, value in lines}
    assert policies == {"policies": {"Preferences": expected}}


def test_styles_of_roundcube() -> None:
    folder = CLIENTS / "roundcube" / "mailsigil"
    used = set(re.findall(r"=> \['(\w+)'", (folder / "mailsigil.php").read_text()))
    css = (folder / "mailsigil.css").read_text()
    for place in ("label", "identity"):
        assert set(re.findall(rf"\.mailsigil-{place}\.mailsigil-(\w+)", css)) == used


@pytest.mark.skipif(shutil.which("php") is None, reason="PHP is not installed")
def test_the_plugin_is_php() -> None:
    path = CLIENTS / "roundcube" / "mailsigil" / "mailsigil.php"
    done = subprocess.run(["php", "-l", str(path)], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("page", [SIEVE / "README.md", CLIENTS / "README.md"], ids=["sieve", "clients"])
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("name", ["thunderbird.png", "roundcube.png"])
def test_pictures_are_small(name: str) -> None:
    picture = (CLIENTS / name).read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 150_000


def test_the_settings_of_the_page_load(tmp_path: Path) -> None:
    (block,) = (block for block in fences(SIEVE / "README.md") if block.language == "toml")
    path = tmp_path / "mailsigil.toml"
    path.write_text(block.text)
    chosen = load_settings(path).delivery
    assert chosen.enabled
    assert [chosen.wanted(f"{name}@bank.example") for name in ("bob", "ceo")] == [True, False]
    assert not chosen.wanted("bob@elsewhere.example")
    unit = (ROOT / "packaging" / "mailsigil-delivery.service").read_text()
    assert f"\nUser={chosen.user}\n" in unit
    for release in ("2.3", "2.4"):
        text = (SIEVE / f"mailsigil-sieve-{release}.conf").read_text()
        found = re.search(r"sieve_filter_socket_dir = \.\./(.+)", text)
        assert found is not None
        assert Path(chosen.socket) == Path("/run") / found[1] / "mailsigil-decrypt"
        assert f"RuntimeDirectory={found[1]}\n" in unit


def test_the_page_compiles_what_there_is() -> None:
    commands = [
        line for b in fences(SIEVE / "README.md") if b.language == "sh" for line in b.text.splitlines()
    ]
    assert sorted(commands) == sorted(f"sievec /etc/dovecot/sieve/{name}" for name in SCRIPTS)


@pytest.fixture(scope="module", params=ROOTS)
def dovecot(request: pytest.FixtureRequest) -> Iterator[Dovecot]:
    users = {BOB: PASSWORD, "carl@bank.example": PASSWORD}
    with open_folder() as folder, sieve_dovecot(folder, users, host=HOST, root=request.param) as running:
        compile_scripts(running)
        yield running


@pytest.mark.integration
def test_the_script_for_people_files_by_keyword(dovecot: Dovecot) -> None:
    (block,) = (block for block in fences(CLIENTS / "README.md") if block.language == "sieve")
    carl = "carl@bank.example"
    imap(dovecot, carl).logout()
    home = dovecot.folder / "mail" / carl
    deliver(dovecot, SIGNED.encode(), to=carl)
    wait_for_mail(dovecot, carl)
    (home / ".dovecot.sieve").write_text(block.text)
    for number, message in enumerate(
        (SIGNED, SIGNED.replace("V4; status=trusted", "none; status=invalid")), 2
    ):
        deliver(dovecot, message.encode(), to=carl)
        wait_for_mail(dovecot, carl, count=number)
    client = imap(dovecot, carl)
    assert [client.select(folder)[1] for folder in ("INBOX", "Doubtful")] == [[b"2"], [b"1"]]
    client.logout()


def _screen(command: list[str], home: Path, keys: str, wanted: list[str]) -> str:
    """What a program shows on a terminal, with a key after each thing that is waited for."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(HOME=str(home), TERM="xterm-256color", LC_ALL="C.UTF-8", LINES="30", COLUMNS="120")
        os.execvp(command[0], command)
    shown, end = "", time.monotonic() + 30
    try:
        for text, key in zip(wanted, [*keys, ""], strict=True):
            while text not in shown and time.monotonic() < end:
                if select.select([terminal], [], [], 0.1)[0]:
                    shown += os.read(terminal, 65_536).decode(errors="replace")
            os.write(terminal, key.encode())
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(terminal)
    return shown


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("neomutt") is None, reason="NeoMutt is not installed")
def test_neomutt(dovecot: Dovecot, tmp_path: Path) -> None:
    deliver(dovecot, SIGNED.encode())
    wait_for_mail(dovecot, BOB)
    folder = tmp_path / ".config" / "neomutt"
    folder.mkdir(parents=True)
    for name in ("mailsigil.muttrc", "mailsigil.neomuttrc"):
        shutil.copy(CLIENTS / name, folder)
    blocks = [b.text for b in fences(CLIENTS / "README.md") if b.text.startswith("source ")]
    account = BOB.replace("@", "%40")
    (tmp_path / "rc").write_text(
        f'set folder="imap://{account}@127.0.0.1:{dovecot.imap_port}/"\nset spoolfile="+INBOX"\n'
        f'set imap_pass="{PASSWORD}"\nset ssl_starttls=no\nset ssl_force_tls=no\n{blocks[0]}'
    )
    command = ["neomutt", "-n", "-R", "-F", str(tmp_path / "rc")]
    shown = _screen(command, tmp_path, "\r", ["(V4) Your appointment", f"Verified-Identity-Text: {TEXT}"])
    assert "(V4) Your appointment" in shown
    assert f"Verified-Identity-Text: {TEXT}" in shown
