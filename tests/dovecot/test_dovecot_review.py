"""`mailsigil check` on Dovecot's configuration: every leak that was seen, in the words of 2.3 and of 2.4."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mailsigil.config.storage import DovecotSettings
from mailsigil.config.surroundings import Severity
from mailsigil.demo.dovecot import Dovecot
from mailsigil.dovecot.doveconf import DoveconfError, parse
from mailsigil.dovecot.review import review_dovecot
from servers.dovecots import ROOTS
from servers.storage_house import StorageHouse, folder_storage

GOOD = {
    "2.3": """\
# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf
mail_location = maildir:~/Maildir:INDEX=MEMORY
mail_plugins = " mail_crypt"
passdb {
  driver = pam
}
plugin {
  mail_crypt_save_version = 0
}
protocols = imap lmtp
service imap {
  executable = imap -t 5 /run/mailsigil-dovecot/postlogin
}
userdb {
  args = file=/etc/dovecot/mailsigil-public-key.lua blocking=yes
  driver = lua
  result_internalfail = return-fail
  result_success = continue
}
userdb {
  driver = passwd
}
""",
    "2.4": """\
# 2.4.1-4 (7d8c0e5759): /etc/dovecot/dovecot.conf
dovecot_config_version = 2.4.1
mail_index_path = MEMORY
mail_plugins {
  mail_crypt = yes
}
protocols {
  imap = yes
  lmtp = yes
}
service imap {
  executable = imap -t 5 /run/mailsigil-dovecot/postlogin
}
userdb lua {
  lua_file = /etc/dovecot/mailsigil-public-key.lua
  result_internalfail = return
  result_success = continue
}
userdb passwd {
}
passdb pam {
}
""",
}
LUA_PASSDB = {
    "2.3": "passdb {\n  driver = lua\n  result_internalfail = return-fail\n}\n",
    "2.4": "passdb lua {\n  passdb_lua_file = /x\n  result_internalfail = return-fail\n}\n",
}
BOTH = ("2.3", "2.4")


def _found(text: str, version: str, **settings: str) -> list[tuple[str, str]]:
    conf = parse(text)
    values = {"version": version, "postlogin_socket": "/run/mailsigil-dovecot/postlogin", **settings}
    found = list(review_dovecot(conf, DovecotSettings(**values)))  # type: ignore[arg-type]
    assert all(remark.mend and remark.subject.startswith("dovecot: ") for remark in found)
    return [(remark.severity.value, remark.subject.removeprefix("dovecot: ")) for remark in found]


@pytest.mark.parametrize("version", BOTH)
def test_a_good_configuration_has_no_findings(version: str) -> None:
    assert _found(GOOD[version], version) == []


# Release, what is replaced (empty: added at the end), by what, and the findings.
ADDED: list[tuple[str, tuple[str, ...], str, list[tuple[str, str]]]] = [
    ("debug", BOTH, "mail_debug = yes\n", [("error", "mail_debug")]),
    ("debug of imap", BOTH, "protocol imap {\n  mail_debug = yes\n}\n", [("error", "mail_debug")]),
    ("debug by category", ("2.4",), "log_debug = category=mail\n", [("error", "log_debug")]),
    (
        "debug, but not of imap",
        BOTH,
        "mail_debug = yes\nprotocol imap {\n  mail_debug = no\n}\n",
        [],
    ),
    ("debug of lmtp", BOTH, "protocol lmtp {\n  mail_debug = yes\n}\n", []),
    ("auth debug", BOTH, "auth_debug = yes\n", [("warning", "auth_debug")]),
    ("auth cache", BOTH, "auth_cache_size = 10 M\n", [("warning", "auth_cache_size")]),
    ("hibernation", BOTH, "imap_hibernate_timeout = 30 secs\n", [("error", "imap_hibernate_timeout")]),
    (
        "few workers",
        BOTH,
        "auth_worker_max_count = 30\nservice auth-worker {\n  process_limit = 10\n}\n",
        [("error", "service auth-worker")],
    ),
    (
        "private key in a userdb",
        ("2.3",),
        "userdb {\n  args = uid=8 mail_crypt_global_private_key=LS0t\n  driver = static\n}\n",
        [("error", "userdb")],
    ),
    (
        "private key in a userdb",
        ("2.4",),
        "userdb static {\n  fields {\n    crypt_global_private_key/k/crypt_private_key_file = /x\n  }\n}\n",
        [("error", "userdb static")],
    ),
    (
        "private key of everybody",
        ("2.3",),
        "plugin {\n  mail_crypt_save_version = 2\n  mail_crypt_global_private_key = </etc/key.pem\n}\n",
        [("error", "mail_crypt_global_private_key")],
    ),
    (
        "private key of everybody",
        ("2.4",),
        "crypt_global_private_key main {\n  crypt_private_key_file = /etc/dovecot/key.pem\n}\n",
        [("error", "crypt_private_key_file")],
    ),
    ("POP3", ("2.3",), "protocols = imap pop3 lmtp\n", [("warning", "protocols")]),
    ("POP3", ("2.4",), "protocols {\n  pop3 = yes\n}\n", [("warning", "protocols")]),
    (
        "a proxy",
        ("2.3",),
        "passdb {\n  args = proxy=y host=b\n  driver = static\n}\n",
        [("warning", "passdb")],
    ),
    (
        "a proxy",
        ("2.4",),
        "passdb static {\n  fields {\n    proxy = y\n  }\n}\n",
        [("warning", "passdb static")],
    ),
    (
        "FILTER=SIEVE",
        ("2.3",),
        "protocol imap {\n  mail_plugins = mail_crypt imap_filter_sieve\n}\n",
        [("error", "protocol imap")],
    ),
    (
        "FILTER=SIEVE",
        ("2.4",),
        "protocol imap {\n  mail_plugins {\n    imap_filter_sieve = yes\n  }\n}\n",
        [("error", "protocol imap")],
    ),
    (
        "LMTP without the plugin",
        ("2.3",),
        "protocol lmtp {\n  mail_plugins = sieve\n}\n",
        [("error", "protocol lmtp")],
    ),
    (
        "LMTP without the plugin",
        ("2.4",),
        "protocol lmtp {\n  mail_plugins {\n    mail_crypt = no\n  }\n}\n",
        [("error", "protocol lmtp")],
    ),
]
REPLACED: list[tuple[str, tuple[str, ...], str, str, list[tuple[str, str]]]] = [
    ("the index on disk", ("2.3",), ":INDEX=MEMORY", "", [("warning", "mail_location")]),
    ("the index on a tmpfs", ("2.3",), "INDEX=MEMORY", "INDEX=/dev/shm/index/%u", []),
    ("the index on disk", ("2.4",), "mail_index_path = MEMORY\n", "", [("warning", "mail_index_path")]),
    ("another release", BOTH, "# 2.", "# 9.", [("error", "version")]),
    (
        "nobody asks",
        BOTH,
        "executable = imap -t 5 /run/mailsigil-dovecot/postlogin",
        "process_limit = 9",
        [("error", "service imap")],
    ),
    ("another socket", BOTH, "/run/mailsigil-dovecot/", "/run/other/", [("error", "service imap")]),
    ("a long wait", BOTH, "-t 5 ", "", [("warning", "service imap")]),
    ("a long wait, said so", BOTH, "-t 5 ", "-t 50 ", [("warning", "service imap")]),
    (
        "script-login",
        BOTH,
        "imap -t 5 /run/mailsigil-dovecot/postlogin",
        "script-login /usr/bin/helper",
        [("warning", "service imap")],
    ),
    ("no save version", ("2.3",), "  mail_crypt_save_version = 0\n", "", [("error", "plugin")]),
    (
        "unknown users become known",
        BOTH,
        "result_success = continue",
        "result_success = continue-ok",
        [("error", "userdb")],
    ),
    (
        "stored in clear in an outage",
        ("2.3",),
        "result_internalfail = return-fail",
        "result_failure = continue",
        [("error", "userdb")],
    ),
    (
        "stored in clear in an outage",
        ("2.4",),
        "result_internalfail = return",
        "result_internalfail = continue",
        [("error", "userdb")],
    ),
    (
        "Lua is not the first",
        ("2.3",),
        "userdb {\n  args",
        "userdb {\n  driver = passwd\n}\nuserdb {\n  args",
        [("error", "userdb")],
    ),
    (
        "Lua is not the first",
        ("2.4",),
        "userdb lua {",
        "userdb static {\n}\nuserdb lua {",
        [("error", "userdb")],
    ),
    ("no Lua", ("2.3",), "driver = lua", "driver = passwd", [("error", "userdb")]),
    ("no Lua", ("2.4",), "userdb lua {", "userdb passwd-file {", [("error", "userdb")]),
]


@pytest.mark.parametrize(
    ("version", "added", "findings"),
    [
        pytest.param(version, added, findings, id=f"{version}-{name}")
        for name, versions, added, findings in ADDED
        for version in versions
    ],
)
def test_what_leaks_is_found(version: str, added: str, findings: list[tuple[str, str]]) -> None:
    assert _found(GOOD[version] + added, version) == findings


@pytest.mark.parametrize(
    ("version", "old", "new", "findings"),
    [
        pytest.param(version, old, new, findings, id=f"{version}-{name}")
        for name, versions, old, new, findings in REPLACED
        for version in versions
    ],
)
def test_what_is_missing_is_found(version: str, old: str, new: str, findings: list[tuple[str, str]]) -> None:
    text = GOOD[version].replace(old, new)
    assert text != GOOD[version]
    wanted = [
        (severity, f"{each} lua" if each == "userdb" and version == "2.4" and "result" in new else each)
        for severity, each in findings
    ]
    assert _found(text, version) == wanted


@pytest.mark.parametrize("version", BOTH)
def test_without_the_plugin_nothing_is_encrypted(version: str) -> None:
    text = GOOD[version].replace('" mail_crypt"', "quota").replace("mail_crypt = yes", "quota = yes")
    assert _found(text, version) == [("error", f"protocol {name}") for name in ("imap", "lmtp", "lda")]


@pytest.mark.parametrize("version", BOTH)
def test_where_keys_pass_through_auth_its_log_and_cache_are_errors(version: str) -> None:
    text = GOOD[version] + LUA_PASSDB[version] + "auth_debug = yes\nauth_cache_size = 1 M\n"
    assert _found(text, version) == [("error", "auth_debug"), ("error", "auth_cache_size")]


@pytest.mark.parametrize("version", BOTH)
def test_a_lua_password_database_fails_closed(version: str) -> None:
    text = GOOD[version] + LUA_PASSDB[version].replace("  result_internalfail = return-fail\n", "")
    assert _found(text, version) == [("error", "passdb lua" if version == "2.4" else "passdb")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("}\n", "line 1 closes", id="closed"),
        pytest.param("service imap {\n", "ends inside", id="open"),
        pytest.param("a {\n" * 30, "inside one another", id="deep"),
        pytest.param("doveconf: Fatal: no such file\n", "line 1 is none", id="another text"),
        pytest.param("x" * 5_000_000, "longer than", id="long"),
    ],
)
def test_what_doveconf_did_not_print_is_told(text: str, sentence: str) -> None:
    with pytest.raises(DoveconfError, match=sentence):
        parse(text)


@pytest.mark.integration
@pytest.mark.parametrize("root", ROOTS)
def test_our_own_configuration_as_dovecot_prints_it(root: Path | None, tmp_path: Path) -> None:
    version = Dovecot(tmp_path, {}, root=root).version
    house = StorageHouse(tmp_path, folder_storage(tmp_path), version=version)
    dovecot = house.dovecot(root)
    dovecot.write()
    release = ".".join(map(str, version[:2]))
    printed = dovecot.doveconf("-n").decode()
    subject = "mail_location" if release == "2.3" else "mail_index_path"
    # The private Dovecot keeps its index beside the mail, and has no other socket than its own.
    assert _found(printed, release, postlogin_socket=str(house.postlogin)) == [("warning", subject)]
    dovecot.more = "protocol imap {\n  mail_debug = yes\n}\n"
    dovecot.write()
    found = _found(dovecot.doveconf("-n").decode(), release, postlogin_socket=str(house.postlogin))
    assert ("error", "mail_debug") in found
    assert Severity("error") is Severity.ERROR


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("doveconf") is None, reason="there is no Dovecot installed")
def test_the_command_reads_what_doveconf_printed(tmp_path: Path) -> None:
    version = Dovecot(tmp_path, {}).version
    house = StorageHouse(tmp_path, folder_storage(tmp_path), version=version)
    handed = tmp_path / "doveconf.txt"
    handed.write_text("# 2.3.19.1 (x)\nmail_debug = yes\n")
    command = [sys.executable, "-m", "mailsigil", "check", "--json", "--config", str(house.config)]
    done = subprocess.run([*command, "--doveconf", str(handed)], capture_output=True, check=False)
    assert done.returncode == 2
    subjects = {each["subject"] for each in json.loads(done.stdout)["findings"]}
    assert {"dovecot: mail_debug", "dovecot: service imap", "dovecot: userdb"} <= subjects
    house.public_keys.chmod(0o777)
    handed.write_text("nonsense")
    done = subprocess.run([*command, "--doveconf", str(handed)], capture_output=True, check=False)
    assert "is none that doveconf -n prints" in done.stdout.decode()
    assert "others than its owner may put public keys" in done.stdout.decode()
    house.public_keys.rmdir()
    done = subprocess.run([*command, "--doveconf", str(handed)], capture_output=True, check=False)
    assert "install -d -m 0700" in done.stdout.decode()
