"""Does Dovecot's configuration have mail decrypted, and for nobody but its recipient?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mailsigil.config.delivery import DeliverySettings
from mailsigil.config.surroundings import Remark, Severity
from mailsigil.dovecot.doveconf import Doveconf

EXTENSION: Final = "vnd.dovecot.filter"
_NEEDED: Final = (EXTENSION, "editheader")
_DEFAULT_SECONDS: Final = 10
_SECONDS: Final = re.compile(r"(\d+) ?s(?:ec\w*)?")


def review_delivery(conf: Doveconf, settings: DeliverySettings) -> Iterator[Remark]:
    """Gives what keeps mail from being decrypted, or lets others than the recipient have it."""
    if _names(conf, "sieve_extensions", EXTENSION):
        yield Remark(
            Severity.ERROR,
            "sieve_extensions",
            f"{EXTENSION} is for the scripts of users, too, who could have the mail of others decrypted",
            f"name {EXTENSION} under sieve_global_extensions alone",
        )
    if "sieve" not in conf.plugins_of("lmtp"):
        yield Remark(
            Severity.ERROR,
            "protocol lmtp",
            "the plugin sieve is not loaded, so no mail is decrypted",
            "add sieve to mail_plugins of the protocol lmtp",
        )
    for needed in _NEEDED:
        if _names(conf, "sieve_global_extensions", needed) or _names(conf, "sieve_extensions", needed):
            continue
        yield Remark(
            Severity.ERROR,
            "sieve_global_extensions",
            f"{needed} is not among them, so the script mailsigil-decrypt.sieve does not run",
            f"add {needed}, as in contrib/dovecot/sieve",
        )
    match = _SECONDS.fullmatch(_setting(conf, "sieve_filter_exec_timeout"))
    seconds = int(match[1]) if match else _DEFAULT_SECONDS
    if seconds <= settings.seconds:
        yield Remark(
            Severity.WARNING,
            "sieve_filter_exec_timeout",
            f"Dovecot waits {seconds} s for the filter, which may take {settings.seconds:g} s; mail"
            " that needs more is stored as it came",
            'raise it, or lower "seconds" under [delivery]',
        )


def _setting(conf: Doveconf, name: str) -> str:
    """Version 2.3 has them in the block plugin, 2.4 on top."""
    return conf.top.one("plugin", "").get(name) or conf.top.get(name)


def _names(conf: Doveconf, setting: str, extension: str) -> bool:
    words = _setting(conf, setting).strip('"').split()
    named = {word.lstrip("+") for word in words if not word.startswith("-")}
    for block in conf.top.all(setting):
        named.update(name for name, value in block.settings.items() if value == "yes")
    return extension in named
