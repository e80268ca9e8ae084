"""What the pages for administrators show is true: commands run, names exist, tables are complete.

contrib/postfix/README.md is followed with real servers by tests/integration/test_first_mail.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from email import message_from_bytes, message_from_string
from email.message import Message
from pathlib import Path

import pytest

from conftest import ROOT
from fences import Fence, fences
from mailsigil.cli.main import COMMANDS
from mailsigil.config.loading import load_settings
from mailsigil.directory.file import FileDirectory
from mailsigil.plan import Event, Outcome
from mailsigil.policy.model import SigningMode
from mailsigil.policy.resolve import resolve
from mailsigil.verdict import Note, Reason, Status

FRONT = ROOT / "README.md"
POSTFIX = ROOT / "contrib" / "postfix"
VERDICTS = POSTFIX / "VERDICTS.md"
FOLDERS = ("contrib", "milter", "packaging", "policies")
PAGES = tuple(
    path
    for path in sorted(
        [*ROOT.glob("*.md"), *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))]
    )
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
UNITS = ("mailsigil-keyd", "mailsigil-milter", "mailsigil-ca", "mailsigil-delivery")
DROP_INS = sorted((ROOT / "packaging" / "drop-ins").glob("*.conf"))
MAIL = b"From: Alice Example <alice@bank.example>\nTo: bob@customer.example\nSubject: Hello\n\nHello Bob\n"


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _shell(path: Path) -> list[Fence]:
    return [block for block in fences(path) if block.language == "sh"]


def _make(block: Fence) -> bool:
    return all(line.startswith("make ") for line in block.text.splitlines())


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the front page's commands were run, one block after the other."""
    folder = tmp_path_factory.mktemp("front")
    (folder / "mail.eml").write_bytes(MAIL)
    (folder / "bin").mkdir()
    command = folder / "bin" / "mailsigil"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m mailsigil "$@"\n')
    command.chmod(0o755)
    for block in _shell(FRONT):
        if not _make(block):
            _run(block.text, folder)
    return folder


def _run(text: str, folder: Path) -> bytes:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "milter")}
    command = ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, f"{text}\n{done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout


@pytest.mark.integration
def test_the_front_page_commands_work(tried: Path) -> None:
    assert b"multipart/signed" in (tried / "signed.eml").read_bytes()


@pytest.mark.integration
def test_the_front_page_shows_the_fields_that_readers_get(tried: Path) -> None:
    sample = next(block for block in fences(FRONT) if block.text.startswith("Authentication-Results:"))
    shown = message_from_string(sample.text)
    config = tried / "annotate.toml"
    config.write_text(
        '[inbound]\nauthserv_id = "mx.bank.example"\n[dns]\nservers = ["127.0.0.1"]\nport = 9\n'
    )
    made = message_from_bytes(
        _run("mailsigil annotate --config annotate.toml --trust ca/root.pem signed.eml", tried)
    )
    assert shown.keys() == made.keys()[:3]
    assert _words(shown["Verified-Identity-Text"]) == _words(made["Verified-Identity-Text"])
    assert _identity(shown) == _identity(made)
    assert _words(made["Authentication-Results"])[:3] == _words(shown["Authentication-Results"])[:3]


def _words(value: str) -> list[str]:
    return value.split()


def _identity(message: Message) -> dict[str, str]:
    pairs = (part.partition("=") for part in " ".join(_words(message["Verified-Identity"])).split("; "))
    # Each signature has a time of its own, and there is no DNS here.
    return {name: value for name, _, value in pairs if name not in {"signed", "dkim"}}


def test_the_front_page_shows_lines_of_the_example() -> None:
    (block,) = (block for block in fences(FRONT) if block.language == "ini")
    assert set(block.text.splitlines()) <= set((POSTFIX / "main.cf.example").read_text().splitlines())


def test_the_front_page_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#]+\.md)\)", FRONT.read_text(encoding="utf-8")))
    assert linked == {_id(page) for page in PAGES} - {"README.md"}


RUN_BY = {
    "README.md": "test_docs.py",
    "contrib/dovecot/README.md": "dovecot/test_dovecot_docs.py",
    "contrib/dovecot/clients/README.md": "dovecot/test_delivery_docs.py",
    "contrib/dovecot/sieve/README.md": "dovecot/test_delivery_docs.py",
    "contrib/postfix/README.md": "integration/test_first_mail.py",
    "packaging/LIFECYCLE.md": "test_docs_lifecycle.py",
    "packaging/SOURCES.md": "test_docs_sources.py",
    "policies/README.md": "directory/test_directory_readme.py",
}
"""Pages with commands or settings to copy, and the test that does."""


def test_what_a_page_has_to_copy_is_tried_by_a_test() -> None:
    assert {_id(page) for page in PAGES if any(block.language for block in fences(page))} == set(RUN_BY)
    for test in RUN_BY.values():
        assert (ROOT / "tests" / test).is_file()


def test_the_map_names_every_room() -> None:
    house = (ROOT / "milter" / "README.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in house.splitlines() if line.startswith("| "))
    for path in (ROOT / "milter" / "mailsigil").iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            assert f"`{path.name}/`" in rows, path
        elif path.suffix == ".py" and not path.name.startswith("__"):
            assert f"`{path.name}`" in rows, path


@pytest.mark.parametrize("path", PAGES, ids=_id)
def test_make_targets_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", path.read_text(encoding="utf-8"), re.MULTILINE)) <= targets


@pytest.mark.parametrize("path", PAGES, ids=_id)
def test_commands_exist(path: Path) -> None:
    # Blocks are run elsewhere; their drawings hold words that are no commands.
    prose = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`mailsigil ([a-z]+)[^`\n]*`", prose)) <= set(COMMANDS)


@pytest.mark.parametrize("path", PAGES, ids=_id)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link


@pytest.mark.parametrize("name", ["main.cf", "master.cf"])
def test_postfix_snippets_of_the_page_are_those_of_the_examples(name: str) -> None:
    example = {line for line in (POSTFIX / f"{name}.example").read_text().splitlines() if line[:1] not in "#"}
    kind = "ini" if name == "main.cf" else ""
    blocks = [block for block in fences(POSTFIX / "README.md") if block.language == kind]
    shown = [line for block in blocks for line in block.text.splitlines()]
    assert set(filter(None, shown)) == set(filter(None, example))


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("postconf") is None, reason="Postfix is not installed")
def test_postfix_knows_every_parameter(tmp_path: Path) -> None:
    shutil.copy(POSTFIX / "main.cf.example", tmp_path / "main.cf")
    shutil.copy(POSTFIX / "master.cf.example", tmp_path / "master.cf")
    for arguments in ("-n", "-M", "-P"):
        done = subprocess.run(
            ["postconf", "-c", str(tmp_path), arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert "unused parameter" not in done.stderr


def test_every_reply_is_explained() -> None:
    page = (POSTFIX / "README.md").read_text(encoding="utf-8")
    for outcome in Outcome:
        if outcome.code:
            assert f"| `{outcome.code} {outcome.status}` {outcome.text} |" in page


def test_every_word_of_the_log_is_explained() -> None:
    page = (POSTFIX / "README.md").read_text(encoding="utf-8")
    table = page[page.index("## What the log says") : page.index("## What an SMTP client is told")]
    assert set(re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE)) == {event.value for event in Event}


def _rows(page: Path, heading: str) -> dict[str, str]:
    """First and second column of the tables below a heading."""
    text = page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]*) \|", text, re.MULTILINE))


def test_every_reason_is_explained_in_the_words_of_the_header() -> None:
    assert _rows(VERDICTS, "reason") == {each.token: each.sentence for each in Reason if each.token}


def test_every_note_is_explained() -> None:
    assert _rows(VERDICTS, "note") == {each.token: each.sentence for each in Note}


def test_every_status_and_parameter_is_explained() -> None:
    rows = _rows(VERDICTS, "Verified-Identity")
    assert {each.value for each in Status} <= set(rows)
    assert {"signed", "note", "reason", "dkim", "address"} <= set(rows)


def test_example_configuration_loads() -> None:
    settings = load_settings(POSTFIX / "mailsigil.toml.example")
    example = (POSTFIX / "main.cf.example").read_text()
    assert f"unix:{settings.milter.address.path.removeprefix('/var/spool/postfix/')}," in example
    for daemon in settings.outbound.daemons:
        assert f"milter_macro_daemon_name={daemon}\n" in (POSTFIX / "master.cf.example").read_text()


def test_example_policy_loads() -> None:
    directory = FileDirectory.load(POSTFIX / "policy.toml.example")
    modes = {
        address: resolve(directory.policies(address)).signing.value
        for address in ("alice@bank.example", "bob@bank.example", "carol@elsewhere.example")
    }
    assert list(modes.values()) == [SigningMode.REQUIRED, SigningMode.PREFERRED, SigningMode.NEVER]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", UNITS)
def test_units_are_sound(name: str, tmp_path: Path) -> None:
    for unit in UNITS:
        text = (ROOT / "packaging" / f"{unit}.service").read_text(encoding="utf-8")
        # The program and the users are not on this machine.
        text = re.sub(
            r"^ExecStart=/opt/mailsigil/bin/mailsigil", "ExecStart=/bin/true", text, flags=re.MULTILINE
        )
        (tmp_path / f"{unit}.service").write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / f"{name}.service")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    said = [line for line in done.stderr.splitlines() if name in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize(
    ("name", "more", "sound"),
    [(path.name, "", True) for path in DROP_INS] + [("network.conf", "\nDeviceAlow=x\n", False)],
    ids=[*(path.stem for path in DROP_INS), "a mistake is seen"],
)
def test_drop_ins_are_sound(name: str, more: str, sound: bool, tmp_path: Path) -> None:
    text = (ROOT / "packaging" / "mailsigil-keyd.service").read_text(encoding="utf-8")
    # Under another name: one of this name may be installed here, with drop-ins of its own.
    unit = tmp_path / "tried-keyd.service"
    unit.write_text(text.replace("ExecStart=/opt/mailsigil/bin/mailsigil", "ExecStart=/bin/true"))
    folder = tmp_path / "tried-keyd.service.d"
    folder.mkdir()
    drop_in = (ROOT / "packaging" / "drop-ins" / name).read_text(encoding="utf-8")
    assert f"install -D -m 0644 {name} /etc/systemd/system/mailsigil-keyd.service.d/{name}\n" in drop_in
    (folder / name).write_text(drop_in + more)
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    said = [line for line in done.stderr.splitlines() if "tried-keyd" in line]
    assert (not said) is sound, said


@pytest.mark.parametrize("name", UNITS)
def test_units_run_as_users_that_are_made(name: str) -> None:
    unit = (ROOT / "packaging" / f"{name}.service").read_text(encoding="utf-8")
    made = re.findall(r"^u +([a-z-]+)", (ROOT / "packaging" / "mailsigil.sysusers").read_text(), re.MULTILINE)
    user = re.search(r"^User=(.+)$", unit, re.MULTILINE)
    assert user is not None
    assert user[1] in made
    assert re.search(rf"/bin/mailsigil {name.removeprefix('mailsigil-')}( |$)", unit, re.MULTILINE)


def test_the_changelog_knows_this_version() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', pyproject, re.MULTILINE)
    assert version is not None
    assert f"\n## {version[1]}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
