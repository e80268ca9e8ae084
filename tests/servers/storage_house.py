"""A key agent that serves Dovecot, with the configuration of ``contrib/dovecot`` on both sides."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from mailsigil.config.example import toml_value
from mailsigil.demo.dovecot import Dovecot
from mailsigil.demo.programs import Daemon, accepts, run
from servers.dovecots import BOB, PASSWORD

CONTRIB = Path(__file__).resolve().parents[2] / "contrib" / "dovecot"


def installed(name: str, folder: Path) -> str:
    """A file of ``contrib/dovecot`` for one folder: its paths are the only thing that changes."""
    text = (CONTRIB / name).read_text(encoding="utf-8")
    return text.replace("/run/mailsigil-dovecot", str(folder)).replace("/etc/dovecot", str(folder))


class StorageHouse:
    """The agent's configuration and process. ``storage`` are the lines of [[storage]] and its sections."""

    def __init__(self, folder: Path, storage: str, *, version: tuple[int, int, int], more: str = "") -> None:
        self.folder = folder
        self.config = folder / "mailsigil.toml"
        self.log = folder / "keyd.log"
        self.postlogin = folder / "postlogin"
        self.public_socket = folder / "public-keys"
        self.public_keys = folder / "public"
        self.daemon: Daemon | None = None
        for name in ("keys", "public"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        head = {
            "keyd": {"socket": folder / "keyd.sock", "folder": folder / "keys", "allowed_users": ("root",)},
            "dovecot": {
                "version": ".".join(map(str, version[:2])),
                "postlogin_socket": self.postlogin,
                "public_key_socket": self.public_socket,
                "public_keys": self.public_keys,
            },
        }
        self.config.write_text(_toml(head) + more + storage)

    def __enter__(self) -> StorageHouse:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the agent."""
        self.daemon = Daemon(
            [sys.executable, "-m", "mailsigil", "keyd", "--config", self.config], log=self.log
        )
        self.daemon.wait_until(lambda: accepts(str(self.postlogin)) and accepts(str(self.public_socket)))

    def stop(self) -> None:
        """Ends it."""
        if self.daemon is not None:
            self.daemon.stop()
            self.daemon = None

    def command(self, *arguments: str) -> str:
        """Runs ``mailsigil`` with this configuration."""
        words = [sys.executable, "-m", "mailsigil", *arguments, "--config", str(self.config)]
        return run(words).decode()

    def dovecot(
        self,
        root: Path | None = None,
        *,
        more: str = "",
        users: Mapping[str, str] | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> Dovecot:
        """The Dovecot beside, with our configuration, not started."""
        (self.folder / "mailsigil-public-key.lua").write_text(
            installed("mailsigil-public-key.lua", self.folder)
        )
        certificate, key = tls or (None, None)
        made = Dovecot(
            self.folder,
            users or {BOB: PASSWORD},
            more=more,
            root=root,
            certificate=certificate,
            key=key,
        )
        release = ".".join(map(str, made.version[:2]))
        made.before = installed(f"mailsigil-{release}.conf", self.folder)
        return made


def _toml(sections: Mapping[str, Mapping[str, object]]) -> str:
    lines: list[str] = []
    for name, values in sections.items():
        lines.append(f"[{name}]")
        for key, value in values.items():
            shown = value if isinstance(value, tuple) else str(value)
            lines.append(f"{key} = {toml_value(shown)}")
    return "\n".join(lines) + "\n"


def folder_storage(folder: Path, **changes: object) -> str:
    """[[storage]] of kind "folder"."""
    (folder / "private").mkdir(mode=0o700, exist_ok=True)
    values = {"name": "files", "kind": "folder", "domains": ("bank.example",), **changes}
    lines = [f"{key} = {toml_value(value)}" for key, value in values.items()]
    return "\n".join(["[[storage]]", *lines, "[storage.folder]", f'path = "{folder}/private"', ""])
