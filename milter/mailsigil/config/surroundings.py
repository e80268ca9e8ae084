"""Does the machine have what the settings name? Users, folders, and who may read what."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from mailsigil.config.settings import Settings
from mailsigil.config.sockets import SocketFamily

KEY_SUFFIXES: Final = frozenset({".key", ".p12", ".pfx", ".pass"})
"""Files that always hold secrets. A ``.pem`` does where it says so."""

MAX_KEY_FILE: Final = 1024 * 1024


class Severity(StrEnum):
    """How bad a remark is."""

    ERROR = "error"
    """mailsigil will not start, or not do its work."""
    WARNING = "warning"
    """It works, and probably not as it was meant."""
    NOTE = "note"
    """It is as it should be, and worth knowing."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that is not as it should be, and how to mend it."""

    severity: Severity
    subject: str
    """What it is about: a setting, a file, or ``file:line``."""
    sentence: str
    mend: str


def remarks(settings: Settings) -> Iterator[Remark]:
    """Look around on this machine, reading only."""
    yield from _users(settings)
    yield from _delivery(settings)
    yield from _milter_socket(settings)
    yield from _socket_folder("keyd.socket", settings.keyd.socket, settings.keyd.user)
    yield from _spool_folder(settings)
    yield from _revocation_folder(settings)
    yield from key_folder("keyd.folder", Path(settings.keyd.folder), settings.keyd.user)


def _users(settings: Settings) -> Iterator[Remark]:
    named = [("milter.user", settings.milter.user), ("keyd.user", settings.keyd.user)]
    named += [("keyd.allowed_users", user) for user in settings.keyd.allowed_users]
    if settings.delivery.enabled:
        named.append(("delivery.user", settings.delivery.user))
        named += [("delivery.allowed_users", user) for user in settings.delivery.allowed_users]
    for setting, user in named:
        if user and uid_of(user) is None:
            yield Remark(
                Severity.ERROR,
                setting,
                f'the user "{user}" does not exist',
                f"adduser --system --group --no-create-home {user}",
            )
    group = settings.milter.socket_group
    if group and _gid(group) is None:
        yield Remark(
            Severity.ERROR,
            "milter.socket_group",
            f'the group "{group}" does not exist',
            "name the group that Postfix runs under, on Debian postfix",
        )
    if settings.milter.user and settings.milter.user == settings.keyd.user:
        yield Remark(
            Severity.WARNING,
            "keyd.user",
            f'milter and key agent both run as "{settings.keyd.user}", so whoever breaks into the milter'
            " can read the keys",
            "give the key agent a user of its own",
        )


def _delivery(settings: Settings) -> Iterator[Remark]:
    delivery = settings.delivery
    if not delivery.enabled:
        return
    if delivery.user and delivery.user in (settings.keyd.user, settings.milter.user):
        yield Remark(
            Severity.WARNING,
            "delivery.user",
            f'the delivery filter runs as "{delivery.user}", as another part does, so whoever breaks into one'
            " of them has both",
            "give the delivery filter a user of its own",
        )
    for user in delivery.allowed_users:
        if _may_log_in(user):
            yield Remark(
                Severity.WARNING,
                "delivery.allowed_users",
                f'"{user}" may have everybody\'s mail decrypted, and somebody can log in as this user',
                f"usermod --shell /usr/sbin/nologin {user}, if Dovecot stores all mail as this user; name no"
                " account of a person",
            )
    if delivery.unauthenticated == "any":
        yield Remark(
            Severity.WARNING,
            "delivery.unauthenticated",
            'with "any", HTML that was altered on its way is stored decrypted, and a mail program that shows'
            " it can give the text away (EFAIL)",
            'set unauthenticated = "inert"',
        )


def _may_log_in(user: str) -> bool:
    """Whether an account other than root's has a shell."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return False
    return account.pw_uid != 0 and not account.pw_shell.endswith(("/nologin", "/false"))


def _milter_socket(settings: Settings) -> Iterator[Remark]:
    address = settings.milter.address
    if address.family is not SocketFamily.UNIX:
        yield Remark(
            Severity.WARNING,
            "milter.socket",
            f"every user of {address.host}, and whoever else reaches it, may claim to be any login",
            "listen on a unix socket, or let a firewall pass nobody but Postfix",
        )
        return
    yield from _socket_folder("milter.socket", address.path, settings.milter.user)
    if int(settings.milter.socket_mode, 8) & stat.S_IWOTH:
        yield Remark(
            Severity.WARNING,
            "milter.socket_mode",
            "every user of this machine may talk to the milter and claim to be any login",
            'set socket_mode = "0660" and socket_group to the group of Postfix',
        )


def _socket_folder(setting: str, socket: str, user: str) -> Iterator[Remark]:
    folder = Path(socket).parent
    info = _stat(folder)
    if info is None:
        # Folders below /run vanish with each start of the machine and are made by systemd or tmpfiles.
        made_at_start = folder.is_relative_to("/run")
        yield Remark(
            Severity.WARNING if made_at_start else Severity.ERROR,
            setting,
            f"the folder {folder} does not exist",
            f"start mailsigil by its systemd unit, or: install -d {_owner(user)}{folder}"
            if made_at_start
            else f"install -d {_owner(user)}{folder}",
        )
    elif not stat.S_ISDIR(info.st_mode):
        yield Remark(Severity.ERROR, setting, f"{folder} is no folder", "name a path inside a folder")
    elif not _may_write(info, user):
        yield Remark(
            Severity.ERROR,
            setting,
            f'the user "{user or _own_name()}" may not make a socket in {folder}',
            f"chown {user or _own_name()} {folder}",
        )
    elif info.st_mode & stat.S_IWOTH and not info.st_mode & stat.S_ISVTX:
        yield Remark(
            Severity.ERROR,
            setting,
            f"every user of this machine may put a socket of their own in {folder}",
            f"chmod o-w {folder}",
        )


def _spool_folder(settings: Settings) -> Iterator[Remark]:
    folder = settings.limits.spool_directory
    if not folder:
        return
    info = _stat(Path(folder))
    if info is None or not stat.S_ISDIR(info.st_mode):
        yield Remark(
            Severity.ERROR,
            "limits.spool_directory",
            f"the folder {folder} does not exist",
            f"install -d -m 0700 {_owner(settings.milter.user)}{folder}",
        )
    elif not _may_write(info, settings.milter.user):
        yield Remark(
            Severity.ERROR,
            "limits.spool_directory",
            f'the user "{settings.milter.user or _own_name()}" may not write to {folder}',
            f"chown {settings.milter.user or _own_name()} {folder}",
        )


def _revocation_folder(settings: Settings) -> Iterator[Remark]:
    """The folder is made when it is needed, so the next one above it that is there counts."""
    folder, user = settings.revocation.cache_folder, settings.milter.user
    asked = settings.revocation.fetch and any(entry.revocation != "off" for entry in settings.trust)
    if not folder or not asked:
        return
    found = [info for one in (Path(folder), *Path(folder).parents) if (info := _stat(one)) is not None]
    if not found or not stat.S_ISDIR(found[0].st_mode) or not _may_write(found[0], user):
        yield Remark(
            Severity.WARNING,
            "revocation.cache_folder",
            f'the user "{user or _own_name()}" may not write to {folder}, so what is fetched is forgotten'
            " with each restart, and each worker asks for itself",
            f"install -d -m 0700 {_owner(user)}{folder}",
        )


def key_folder(setting: str, folder: Path, owner: str) -> Iterator[Remark]:
    """Look at a folder of keys and into its files; ``owner`` is the key agent's user, empty for this one."""
    info = _stat(folder)
    if info is None or not stat.S_ISDIR(info.st_mode):
        yield Remark(
            Severity.ERROR,
            setting,
            f"the folder {folder} does not exist",
            f"install -d -m 0700 {_owner(owner)}{folder}",
        )
        return
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Remark(
            Severity.ERROR,
            setting,
            f"others than its owner may put keys into {folder}",
            f"chmod go-w {folder}",
        )
    try:
        files = sorted(folder.iterdir())
    except PermissionError:
        yield Remark(
            Severity.WARNING,
            setting,
            f"{folder} cannot be looked into as this user, so its keys are not checked",
            "run mailsigil check as root or as the key agent's user",
        )
        return
    for file in files:
        yield from _key_file(file, owner)


def writable_folder(setting: str, folder: Path, owner: str) -> Iterator[Remark]:
    """Look at a folder that the key agent makes by itself, and keeps private keys in."""
    mend = f"install -d -m 0700 {_owner(owner)}{folder}"
    info = _stat(folder)
    if info is None:
        above = next((_stat(parent) for parent in folder.parents if _stat(parent) is not None), None)
        if above is not None and not _may_write(above, owner):
            sentence = f'there is no folder {folder}, and the user "{owner or _own_name()}" may not make it'
            yield Remark(Severity.ERROR, setting, sentence, mend)
    elif not stat.S_ISDIR(info.st_mode):
        yield Remark(Severity.ERROR, setting, f"{folder} is no folder", "name a path for a folder")
    elif not _may_write(info, owner):
        sentence = f'the user "{owner or _own_name()}" may not write to {folder}'
        yield Remark(Severity.ERROR, setting, sentence, f"chown {owner or _own_name()} {folder}")
    elif info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        sentence = f"others than its owner may put keys into {folder}"
        yield Remark(Severity.ERROR, setting, sentence, f"chmod go-w {folder}")


def _key_file(file: Path, owner: str) -> Iterator[Remark]:
    info = _stat(file)
    if info is None or not stat.S_ISREG(info.st_mode) or not _holds_secret(file):
        return
    if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Remark(
            Severity.ERROR,
            str(file),
            "holds a secret and is open to others than its owner, so the key agent refuses it",
            f"chmod 0600 {file}",
        )
    uid = uid_of(owner) if owner else None
    if uid is not None and info.st_uid not in {uid, 0}:
        yield Remark(
            Severity.ERROR,
            str(file),
            f'holds a secret and does not belong to the key agent\'s user "{owner}"',
            f"chown {owner} {file}",
        )


def _holds_secret(file: Path) -> bool:
    if file.suffix.lower() in KEY_SUFFIXES:
        return True
    try:
        with file.open("rb") as stream:
            return b"PRIVATE KEY" in stream.read(MAX_KEY_FILE)
    except OSError:
        return False


def _may_write(folder: os.stat_result, user: str) -> bool:
    return may(folder, user, stat.S_IWOTH)


def may(info: os.stat_result, user: str, rights: int) -> bool:
    """Whether a user (the present one where the name is empty) has rights: 4 read, 2 write, 1 search."""
    if not user:
        uid, groups = os.geteuid(), {os.getegid(), *os.getgroups()}
    else:
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            return True  # that the user does not exist is a remark of its own
        uid, groups = entry.pw_uid, set(os.getgrouplist(user, entry.pw_gid))
    if uid == 0:
        return True
    shift = 6 if uid == info.st_uid else 3 if info.st_gid in groups else 0
    return info.st_mode >> shift & rights == rights


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def uid_of(user: str) -> int | None:
    """The number of a user; None where there is no such user."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _owner(user: str) -> str:
    return f"-o {user} " if user else ""
