"""What the pki engine has issued: looked through where an answer of it was lost.

OpenBao lists its certificates page by page, with the common name of each (``pki/certs/detailed``). Vault has
no such list: there it cannot be told. The login has to be permitted to list and read (certs/*, cert/*).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from cryptography import x509

from mailsigil.keys.answers import read_certificates
from mailsigil.keys.errors import NotSupported, SourceRefused
from mailsigil.keys.sources.bao_client import BaoClient

PAGE: Final = 400
"""Certificates in one answer."""
MAX_PAGES: Final = 250
MAX_READ: Final = 200
"""Certificates of one name that are looked into, the newest first."""


class IssuedThere:
    """The certificates of one mount (as it stands in a URL). Safe to share between threads."""

    def __init__(self, client: BaoClient, mount: str) -> None:
        self._client = client
        self._mount = mount

    def of_names(self, names: frozenset[str], *, now: datetime) -> Iterator[x509.Certificate]:
        """Give the good certificates with one of these common names, the newest first.

        Raises NotSupported where the engine cannot tell, or may not, and SourceError.
        """
        wanted = frozenset(name.lower() for name in names)
        for serial in self._serials(wanted)[:MAX_READ]:
            told = self._client.ask("GET", f"{self._mount}/cert/{serial}")
            if told.get("revocation_time", 0) or not isinstance(told.get("certificate"), str):
                continue
            (certificate, *_) = read_certificates(self._client.source, told["certificate"].encode())
            if certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                yield certificate

    def issuers(self) -> tuple[x509.Certificate, ...]:
        """Give the chain of the engine's authority. Raises SourceError."""
        told = self._client.ask("GET", f"{self._mount}/cert/ca_chain")
        text = told.get("certificate") or told.get("ca_chain")
        if not isinstance(text, str) or not text.strip():
            return ()
        return read_certificates(self._client.source, text.encode())

    def _serials(self, names: frozenset[str]) -> list[str]:
        found: list[tuple[str, str]] = []
        for serial, each in self._listed():
            name, begin = each.get("common_name"), each.get("not_before")
            if isinstance(name, str) and name.lower() in names and set(serial) <= _SERIAL:
                # Both in UTC and RFC 3339, so their order is that of their texts.
                found.append((begin if isinstance(begin, str) else "", serial))
        return [serial for _, serial in sorted(found, reverse=True)]

    def _listed(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        last = ""
        for _ in range(MAX_PAGES):
            keys, facts = self._page(last)
            for serial in keys:
                each = facts.get(serial)
                yield serial, each if isinstance(each, dict) else {}
            if len(keys) < PAGE:
                return
            last = keys[-1]
        raise self._cannot_tell(f"it has more than {PAGE * MAX_PAGES} certificates")

    def _page(self, last: str) -> tuple[list[str], Mapping[str, Any]]:
        path = f"{self._mount}/certs/detailed?list=true&limit={PAGE}" + (f"&after={last}" if last else "")
        try:
            told = self._client.ask("GET", path)
        except SourceRefused as error:
            raise self._cannot_tell(f"it does not list them: {error.sentence}") from error
        if last and not told:
            return [], {}  # The page before it was the last one, and full.
        keys, facts = told.get("keys"), told.get("key_info")
        if not isinstance(keys, list) or not isinstance(facts, dict) or len(keys) > PAGE:
            # Vault has no such list, and gives nothing, or something else.
            raise self._cannot_tell("it has no list of certificates with their names")
        # What is no serial number stands in no URL.
        serials = [key for key in keys if isinstance(key, str) and key and set(key) <= _SERIAL]
        if len(serials) != len(keys) or (last and last in serials):
            raise self._cannot_tell("its list of certificates goes round in circles, or names other things")
        return serials, facts

    def _cannot_tell(self, why: str) -> NotSupported:
        return NotSupported(
            self._client.source,
            f"whether it issued a certificate whose answer was lost cannot be told: {why}",
            "Permit the login to list certs/detailed and to read cert/*, or look there by hand",
        )


_SERIAL: Final = frozenset("0123456789abcdefABCDEF:-")
