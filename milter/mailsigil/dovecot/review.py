"""Does Dovecot's configuration keep the keys to itself? Each rule stands for a leak or loss that was seen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from mailsigil.config.storage import DovecotSettings
from mailsigil.config.surroundings import Remark, Severity
from mailsigil.dovecot.doveconf import Block, Doveconf

PLUGIN: Final = "mail_crypt"
_NO: Final = frozenset({"", "no", "0", "0s", "0 s", "0B", "0 B"})
_PATIENCE: Final = 15
"""Seconds that a login may wait for an agent that is stalled."""
_IN_MEMORY: Final = ("/dev/shm/", "/run/")  # noqa: S108  # compared, not used
_PRIVATE: Final = re.compile(r"(?:mail_)?crypt_global_private_key")
_SECRET_NAMES: Final = ("private_key", "private_password", "key_encryption_key")

Rule = Callable[[Doveconf, DovecotSettings], Iterator[Remark]]


def review_dovecot(conf: Doveconf, settings: DovecotSettings) -> Iterator[Remark]:
    """Gives everything that leaks keys, loses them, or stores mail in clear."""
    for rule in RULES:
        yield from rule(conf, settings)


def _release(conf: Doveconf, settings: DovecotSettings) -> Iterator[Remark]:
    if conf.version and conf.version != settings.version:
        yield _error(
            "version",
            f"Dovecot is {conf.version}, and the keys are given as {settings.version} takes them: it would"
            " ignore them",
            f'write version = "{conf.version}" into [dovecot]'
            if conf.version in ("2.3", "2.4")
            else "use Dovecot 2.3 or 2.4",
        )


def _debug(conf: Doveconf, settings: DovecotSettings) -> Iterator[Remark]:
    for name in ("mail_debug", "log_debug"):
        if conf.of_protocol(name, "imap") not in _NO:
            yield _error(
                name,
                "the imap processes write the private keys of each login into Dovecot's log",
                f"protocol imap {{ {name} = {'no' if name == 'mail_debug' else ''} }}".replace("=  }", "= }"),
            )


def _through_auth(conf: Doveconf, settings: DovecotSettings) -> Iterator[Remark]:
    databases = [block for block in conf.top.all("passdb") if _is_lua(block)]
    lua = bool(databases)
    for block in databases:
        if block.get("result_internalfail") != "return-fail":
            yield _error(
                f"passdb {block.name}".strip(),
                "a login whose keys could not be had goes on without them",
                "result_internalfail = return-fail",
            )
    if conf.top.get("auth_debug") not in _NO:
        yield (_error if lua else _warning)(
            "auth_debug",
            "the auth process writes into the log what user databases answer"
            + (", and here they answer private keys" if lua else ""),
            "auth_debug = no",
        )
    if conf.top.get("auth_cache_size") not in _NO:
        yield (_error if lua else _warning)(
            "auth_cache_size",
            "private keys stay in the cache of the auth process, and are given out while the agent is away"
            if lua
            else "the public key of a user who just got one is not seen until the cache forgets him, and his"
            " mail is stored in clear until then",
            "auth_cache_size = 0",
        )


def _in_databases(conf: Doveconf, settings: DovecotSettings) -> Iterator[Remark]:
    for block in (*conf.top.all("userdb"), *conf.top.all("passdb")):
        if any(_PRIVATE.search(f"{name} {value}") for name, value in _all_settings(block)):
            yield _error(
                f"{block.kind} {block.name}".strip(),
                "private keys in a user database are given to everybody who may ask it, and to doveadm user",
                "remove the field; the key agent gives private keys at login",
            )
    everywhere = [block for block in conf.top.blocks if block.kind not in ("userdb", "passdb")]
    for name, value in [
        *conf.top.settings.items(),
        *(pair for each in everywhere for pair in _all_settings(each)),
    ]:
        if "crypt" in name and any(secret in name for secret in _SECRET_NAMES) and value:
            yield _error(
                name,
                "a private key, or what opens it, stands in Dovecot's configuration on this machine",
                "remove it; the key agent gives private keys at login",
            )


def _hibernation(conf: Doveconf, settings: DovecotSettings) -> Iterator[Remark]:
    if conf.of_protocol("imap_hibernate_timeout", "imap") not in _NO:
        yield _error(
            "imap_hibernate_timeout",
            "private keys are copied into the imap-hibernate process and stay there",
            "imap_hibernate_timeout = 0",
        )


def _index(conf: Doveconf, settings: DovecotSettings) -> Iterator[Remark]:
    location = conf.top.get("mail_location")
    found = re.search(r":INDEX=([^:]*)", location)
    place = found[1] if found else conf.top.get("mail_index_path")
    if place != "MEMORY" and not place.startswith(_IN_MEMORY):
        yield _warning(
            "mail_location" if conf.version == "2.3" else "mail_index_path",
            "Dovecot's index files keep Subject and other header fields of encrypted mail in clear",
            "put them into memory: mail_location = ...:INDEX=MEMORY, or INDEX= on a tmpfs"
            if conf.version == "2.3"
            else "put them into memory: mail_index_path = MEMORY, or a path on a tmpfs",
        )


def _postlogin(conf: Doveconf, settings: DovecotSettings) -> Iterator[Remark]:
    executable = conf.top.one("service", "imap").get("executable")
    words = executable.split()
    if "script-login" in executable:
        yield _warning(
            "service imap",
            "script-login passes the keys in the environment, which every process of the same user can read",
            "let imap ask the key agent's socket: executable = imap -t 5 SOCKET",
        )
        return
    if len(words) < 2 or not words[-1].startswith("/"):
        yield _error(
            "service imap",
            "the imap processes do not ask the key agent, so users cannot read what is encrypted",
            f"service imap {{ executable = imap -t 5 {settings.postlogin_socket or _SOCKET} }}",
        )
        return
    if settings.postlogin_socket and words[-1] != settings.postlogin_socket:
        yield _error(
            "service imap",
            f"the imap processes ask {words[-1]}, and the key agent listens on {settings.postlogin_socket}",
            f"executable = imap -t 5 {settings.postlogin_socket}",
        )
    seconds = words[words.index("-t") + 1] if "-t" in words[:-1] else "60"
    if not seconds.isdigit() or int(seconds) > _PATIENCE:
        yield _warning(
            "service imap",
            f"a login waits {seconds} seconds for a key agent that is stalled",
            f"executable = imap -t 5 {words[-1]}",
        )


def _plugin(conf: Doveconf, settings: DovecotSettings) -> Iterator[Remark]:
    for protocol in ("imap", "lmtp", "lda"):
        if PLUGIN not in conf.plugins_of(protocol):
            yield _error(
                f"protocol {protocol}",
                f"the plugin {PLUGIN} is not loaded: "
                + ("encrypted mail cannot be read" if protocol == "imap" else "mail is delivered in clear"),
                f"add {PLUGIN} to mail_plugins of all protocols",
            )
    if "imap_filter_sieve" in conf.plugins_of("imap"):
        yield _error(
            "protocol imap",
            "the plugin imap_filter_sieve ends imap with a panic when a client filters encrypted mail",
            "remove imap_filter_sieve from mail_plugins",
        )
    if conf.version == "2.3" and not conf.top.one("plugin", "").get("mail_crypt_save_version"):
        yield _error(
            "plugin",
            "without mail_crypt_save_version the plugin refuses every user",
            "plugin { mail_crypt_save_version = 0 }; the key agent sets it to 2 for users with keys",
        )


def _delivery(conf: Doveconf, settings: DovecotSettings) -> Iterator[Remark]:
    databases = conf.top.all("userdb")
    lua = next((block for block in databases if _is_lua(block)), None)
    if lua is None:
        yield _error(
            "userdb",
            "delivery asks nobody for public keys: mail for users who have keys is stored in clear",
            "add the Lua user database of contrib/dovecot",
        )
        return
    if databases[0] is not lua:
        yield _error(
            "userdb",
            "the Lua user database is not the first: one before it may end the search, and mail is stored in"
            " clear",
            "include mailsigil's configuration before the other user databases",
        )
    for name, good in (("result_success", ("continue",)), ("result_internalfail", ("return", "return-fail"))):
        if lua.get(name) not in good:
            yield _error(
                f"userdb {lua.name}".strip(),
                "unknown users become known ones"
                if name == "result_success"
                else "mail is stored in clear while the key agent does not answer",
                f"{name} = {good[-1]}",
            )


def _workers(conf: Doveconf, settings: DovecotSettings) -> Iterator[Remark]:
    limit = conf.top.one("service", "auth-worker").get("process_limit")
    most = conf.top.get("auth_worker_max_count") or "30"
    if limit.isdigit() and most.isdigit() and 0 < int(limit) < int(most):
        yield _error(
            "service auth-worker",
            f"process_limit {limit} is below auth_worker_max_count {most}: logins fail at once under load",
            f"auth_worker_max_count = {limit}, or a higher process_limit",
        )


def _elsewhere(conf: Doveconf, settings: DovecotSettings) -> Iterator[Remark]:
    protocols = conf.top.get("protocols").split()
    protocols += [
        name for block in conf.top.all("protocols") for name, on in block.settings.items() if on == "yes"
    ]
    if "pop3" in protocols:
        yield _warning(
            "protocols",
            "POP3 gets no private keys, so users with keys cannot read their mail there",
            "remove pop3 from protocols",
        )
    for block in (*conf.top.all("passdb"), *conf.top.all("userdb")):
        if any(re.search(r"\bproxy(_maybe)?\b", f"{name}={value}") for name, value in _all_settings(block)):
            yield _warning(
                f"{block.kind} {block.name}".strip(),
                "on a Dovecot that is a proxy nobody asks for keys after the login",
                "set mailsigil up on the servers where the mail is stored",
            )


RULES: Final[tuple[Rule, ...]] = (
    _release,
    _postlogin,
    _plugin,
    _delivery,
    _debug,
    _through_auth,
    _in_databases,
    _hibernation,
    _workers,
    _index,
    _elsewhere,
)
_SOCKET: Final = "/run/mailsigil-dovecot/postlogin"


def _error(subject: str, sentence: str, mend: str) -> Remark:
    return Remark(Severity.ERROR, f"dovecot: {subject}", sentence, mend)


def _warning(subject: str, sentence: str, mend: str) -> Remark:
    return Remark(Severity.WARNING, f"dovecot: {subject}", sentence, mend)


def _is_lua(block: Block) -> bool:
    return block.name == "lua" or block.get("driver") == "lua"


def _all_settings(block: Block) -> Iterator[tuple[str, str]]:
    for each in block.walk():
        yield each.kind + each.name, ""
        yield from each.settings.items()
