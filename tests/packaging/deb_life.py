"""The life of the Debian package on a sandboxed machine: installed, used, upgraded, removed, purged.

    deb_life.py ROOT WORK PROJECT NEWER

PROJECT is a copy of the project with the built package in ``dist``, and NEWER the package of the next
revision. Ends with status 0 if everything was as an administrator may expect it.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

from integration.first_mail import commands, run
from servers import manager, sandbox

USERS = ("mailsigil", "mailsigil-keyd", "mailsigil-delivery", "mailsigil-ca")
STATES = ("/var/lib/mailsigil", "/var/lib/mailsigil-ca", "/var/cache/mailsigil")
PLACES = ("/etc/mailsigil", "/opt/mailsigil", *STATES)
SOCKET_FOLDER = Path("/var/spool/postfix/mailsigil")
CONFIG = Path("/etc/mailsigil/mailsigil.toml")
CONFFILES = (CONFIG, Path("/etc/mailsigil/policy.toml"))
CA = Path("/etc/mailsigil/ca")
KEY = Path("/etc/mailsigil/keys/alice@bank.example.pem")
STATE = Path("/var/lib/mailsigil/keyd/enrolled.pem")
SERVICES = ("mailsigil-keyd", "mailsigil-milter")
IDENTITY = "V4 Alice Example, Example Bank, Account Manager, Identity Validated and Trusted"


def life(root: Path, work: Path, project: Path, newer: Path) -> None:
    """From the installation to what stays."""
    page = commands(root)
    said = _do(page[0].text.splitlines()[1], project)
    _expect("changes nothing about your mail" in said, f"no next steps are named:\n{said}")
    _folders_are_there()
    _expect(not list(Path("/etc/systemd/system").rglob("mailsigil*")), "a unit was enabled")
    _expect("mailsigil, version" in _do("mailsigil --version"), "no version")
    _expect("0 errors" in _do("mailsigil check"), "the configuration that comes along has errors")

    _systemd_runs()
    # What an administrator types who has no copy of the repository.
    folder = work / "admin"
    folder.mkdir()
    (folder / "contrib").symlink_to("/usr/share/mailsigil/contrib")
    for block in page[3:6]:
        run(block, folder)
    _expect(IDENTITY in _do("mailsigil verify signed.eml", folder), "the signature shows another identity")

    STATE.parent.mkdir(exist_ok=True)
    STATE.write_text("a key that was enrolled")
    before = {name: _process(name) for name in SERVICES}
    own = CONFIG.read_bytes()
    said = _do(f"dpkg -i {newer}")
    _expect("changes nothing about your mail" not in said, f"an upgrade is no installation:\n{said}")
    after = {name: _process(name) for name in SERVICES}
    _expect(after["mailsigil-keyd"] > max(before.values()), f"the key agent is the old one: {before} {after}")
    _expect(after["mailsigil-milter"] > after["mailsigil-keyd"], f"the milter came first: {after}")
    _expect(not (manager.STATE / "mailsigil-ca").exists(), "what did not run was started")
    _expect(CONFIG.read_bytes() == own, "the administrator's configuration is another one")
    _do("mailsigil sign mail.eml > again.eml && mailsigil verify again.eml", folder)

    _do("dpkg --remove mailsigil")
    _expect(not any((manager.STATE / name).exists() for name in SERVICES), "services were left running")
    _expect(not Path("/usr/bin/mailsigil").is_symlink(), "the program is still there")
    _expect(not Path("/opt/mailsigil").exists(), "something is left in /opt")
    _stays(*CONFFILES, KEY, CA / "root.key", STATE)

    Path("/var/cache/mailsigil").mkdir(exist_ok=True)
    said = _do("dpkg --purge mailsigil")
    _expect("rm -r /etc/mailsigil /var/lib/mailsigil" in said, f"not a word of what is kept:\n{said}")
    for place in (*CONFFILES, Path("/var/cache/mailsigil"), SOCKET_FOLDER):
        _expect(not place.exists(), f"{place} was left behind")
    _stays(KEY, CA / "root.key", CA / "index.jsonl", STATE)
    _expect(_owner(KEY) == "mailsigil-keyd", "the key agent's user is gone")


def bare(newer: Path) -> None:
    """On a machine without systemd's tools; Postfix comes later; nothing is left where there was nothing."""
    _as_new()
    for tool in ("systemd-sysusers", "systemd-tmpfiles"):
        Path("/usr/bin", tool).unlink(missing_ok=True)
    shutil.rmtree("/run/systemd")
    _do(f"dpkg -i {newer}")
    _folders_are_there()
    SOCKET_FOLDER.rmdir()
    _do("dpkg-trigger --by-package=postfix /usr/sbin/postfix && dpkg --triggers-only mailsigil")
    _folders_are_there()
    said = _do("dpkg --purge mailsigil")
    _expect("are kept" not in said, f"there was nothing to keep:\n{said}")
    _expect(not any(Path(place).exists() for place in PLACES), "an empty folder was left behind")

    mine = Path("/opt/mailsigil/pyvenv.cfg")
    mine.parent.mkdir()
    mine.touch()
    done = subprocess.run(["dpkg", "-i", newer], capture_output=True, text=True)
    _expect(done.returncode != 0 and "is not this package's" in done.stderr, "environments were mixed")
    _expect(list(mine.parent.iterdir()) == [mine], "somebody's environment was touched")


def _as_new() -> None:
    """No trace of an earlier mailsigil, and no rule of a container that keeps services from starting."""
    for place in PLACES:
        shutil.rmtree(place, ignore_errors=True)
    for user in USERS:
        subprocess.run(["userdel", user], capture_output=True)
    for path in (Path("/usr/sbin/policy-rc.d"), Path("/usr/local/bin/mailsigil")):
        path.unlink(missing_ok=True)
    # dpkg has it run each time, and it reads the manual pages of the whole machine.
    sandbox.write("/usr/bin/mandb", "#!/bin/sh\n")
    Path("/usr/bin/mandb").chmod(0o755)


def _systemd_runs() -> None:
    for name in ("systemctl", "journalctl"):
        place = f"/usr/local/bin/{name}"
        sandbox.write(place, f'#!/bin/sh\nexec {sys.executable} {manager.__file__} {name} "$@"\n')
        Path(place).chmod(0o755)
    for folder in (manager.STATE, manager.JOURNAL_SOCKET.parent, Path("/run/systemd/system")):
        folder.mkdir(parents=True)
    threading.Thread(target=manager.keep_journal, daemon=True).start()


def _folders_are_there() -> None:
    for path, user, mode in (
        (Path("/etc/mailsigil"), "root", 0o755),
        (Path("/etc/mailsigil/keys"), "mailsigil-keyd", 0o700),
        (Path("/var/lib/mailsigil/public-keys"), "mailsigil-keyd", 0o700),
        (SOCKET_FOLDER, "mailsigil", 0o750),
    ):
        found = (_owner(path), stat.S_IMODE(path.stat().st_mode))
        _expect(found == (user, mode), f"{path} is {found}")
    for user in USERS:
        entry = _do(f"getent passwd {user}").strip().split(":")
        _expect(entry[4].startswith("mailsigil ") and entry[5:] == ["/", "/usr/sbin/nologin"], str(entry))


def _owner(path: Path) -> str:
    # Not the pwd module: it remembers nothing, but users were made anew behind this process's back.
    return _do(f"stat -c %U {path}").strip()


def _process(name: str) -> int:
    return int((manager.STATE / name).read_text())


def _stays(*paths: Path) -> None:
    for path in paths:
        _expect(path.is_file(), f"{path} is gone")


def _do(command: str, folder: Path = Path("/")) -> str:
    line = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    _expect(done.returncode == 0, f"{command} ended with status {done.returncode}:\n{done.stdout}")
    return done.stdout


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def main() -> None:
    """In a process of :data:`sandbox.UNSHARE`."""
    root, work, project, newer = map(Path, sys.argv[1:])
    sandbox.cover(work, root, Path(sys.prefix), Path(sys.base_prefix))
    work.chmod(0o755)
    _as_new()
    # The package's own Python, and none of the tests' modules.
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    try:
        life(root, work, project, newer)
        bare(newer)
    except BaseException:
        if manager.JOURNAL.exists():
            sys.stderr.write(manager.JOURNAL.read_text(errors="replace")[-4000:])
        raise


if __name__ == "__main__":
    main()
