"""LDAP's wire: the only file that imports ldap3."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final

import ldap3
from ldap3.core.exceptions import (
    LDAPCertificateError,
    LDAPExceptionError,
    LDAPSocketReceiveError,
    LDAPStartTLSError,
)

from mailsigil.config.credentials import CredentialError, credential_path
from mailsigil.config.directories import DirectorySettings, ldapi_path
from mailsigil.directory.entry import Entry
from mailsigil.directory.servers import (
    Connect,
    LoginRefused,
    Search,
    SearchFailed,
    Session,
    SessionBroken,
    SessionTimeout,
)

MAX_PASSWORD: Final = 4096
PAGE: Final = 500
"""Entries in one answer (RFC 2696); Active Directory gives 1,000 at most."""

SUCCESS: Final = 0
NO_SUCH_OBJECT: Final = 32
SERVER_TROUBLE: Final = frozenset({1, 51, 52, 80})
"""operationsError, busy, unavailable, other (RFC 4511 4.1.9): another server may do better."""

MORE_PAGES: Final = 100
"""Pages beyond those that the entries need: a server may give small ones, and now and then an empty one."""
LONGEST: Final = 1800.0
"""Seconds that a server may take for all pages of all people."""

_PAGED: Final = "1.2.840.113556.1.4.319"


def connector(settings: DirectorySettings) -> Connect:
    """Give the function that opens sessions as the settings say."""
    password = password_reader(settings)

    def connect(url: str, seconds: float) -> Session:
        return _Session(_open(settings, url, seconds, password))

    return connect


def password_reader(settings: DirectorySettings) -> Callable[[], str]:
    """Give the function that reads the password, afresh for each login, so that it may be changed."""

    def read() -> str:
        if not (settings.password_file or settings.password_credential):
            return ""
        path = Path(settings.password_file) if settings.password_file else _credential(settings)
        try:
            with path.open("rb") as file:
                text = file.read(MAX_PASSWORD).decode("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise LoginRefused(f"the password file {path} cannot be read: {error}") from error
        if not text:
            # An empty password would make an anonymous login of it (RFC 4513 5.1.2).
            raise LoginRefused(f"the password file {path} is empty")
        return text

    return read


def _credential(settings: DirectorySettings) -> Path:
    try:
        return credential_path(settings.password_credential)
    except CredentialError as error:
        raise LoginRefused(str(error)) from error


def _open(settings: DirectorySettings, url: str, seconds: float, password: Callable[[], str]) -> Any:
    with _translated():
        # The time limit of the socket stays in force while TLS is negotiated and the login is made.
        address = f"ldapi://{ldapi_path(url)}" if url.startswith("ldapi:") else url
        server = ldap3.Server(address, get_info=ldap3.NONE, connect_timeout=seconds, tls=_tls(settings, url))
        connection = ldap3.Connection(
            server,
            client_strategy=ldap3.SYNC,
            auto_referrals=False,
            auto_encode=False,
            check_names=False,
            read_only=True,
            return_empty_attributes=False,
            **_login(settings, password),
        )
        try:
            connection.open(read_server_info=False)
            if url.startswith("ldap:") and settings.encryption == "required":
                connection.start_tls(read_server_info=False)
            if settings.bind != "anonymous" and not connection.bind(read_server_info=False):
                result = connection.result or {}
                raise LoginRefused(f"the login was refused: {_words(result)}")
        except BaseException:
            _hang_up(connection)
            raise
        return connection


def _login(settings: DirectorySettings, password: Callable[[], str]) -> dict[str, object]:
    match settings.bind:
        case "simple":
            return {"user": settings.bind_dn, "password": password(), "authentication": ldap3.SIMPLE}
        case "external":
            # RFC 4422 appendix A: an empty authorisation identity takes the one of the lower layer.
            return {
                "authentication": ldap3.SASL,
                "sasl_mechanism": ldap3.EXTERNAL,
                "sasl_credentials": "",
            }
        case _:
            return {"authentication": ldap3.ANONYMOUS}


def _tls(settings: DirectorySettings, url: str) -> ldap3.Tls | None:
    if url.startswith("ldapi:") or (url.startswith("ldap:") and settings.encryption == "none"):
        return None
    return ldap3.Tls(
        validate=ssl.CERT_REQUIRED,
        ca_certs_file=settings.ca_file or None,
        local_certificate_file=settings.client_certificate or None,
        local_private_key_file=settings.client_key or None,
    )


class _Timed:
    """A connection's socket, whose reads all end at one time: a server that sends a little now and then, too,
    is one that does not answer."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped
        self._until = 0.0

    def allow(self, seconds: float) -> None:
        """Give what follows this long, from now on."""
        self._until = time.monotonic() + seconds
        self._wrapped.settimeout(max(0.001, seconds))

    def recv(self, size: int) -> bytes:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._wrapped.settimeout(left)
        data: bytes = self._wrapped.recv(size)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


class _Session:
    """A logged-in connection of ldap3."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._socket = connection.socket = _Timed(connection.socket)

    def search(self, search: Search, *, seconds: float) -> tuple[Entry, ...]:
        """Ask in pages, and give all entries; all of them come within ``seconds``."""
        return tuple(chain.from_iterable(self._pages(search, each=seconds, together=seconds)))

    def pages(self, search: Search, *, seconds: float) -> Iterator[tuple[Entry, ...]]:
        """Ask in pages (RFC 2696), and give each as it comes."""
        return self._pages(search, each=seconds, together=LONGEST)

    def _pages(self, search: Search, *, each: float, together: float) -> Iterator[tuple[Entry, ...]]:
        cookie: bytes | None = None
        count = 0
        for _ in range(4 * search.limit // PAGE + MORE_PAGES):
            found: list[Entry] = []
            started = time.monotonic()
            with _translated():
                self._socket.allow(min(each, together))
                cookie = self._page(search, cookie, found)
            # Whoever takes the pages may take time: the server's alone counts.
            together -= time.monotonic() - started
            count += len(found)
            if count > search.limit:
                raise SearchFailed(f"more than {search.limit} entries below {search.base}")
            yield tuple(found)
            if not cookie:
                return
            if together <= 0:
                raise SessionTimeout("it gives page after page, and not all of them in time")
        raise SessionBroken(f"it gives page after page below {search.base}, and hardly any entries")

    def _page(self, search: Search, cookie: bytes | None, found: list[Entry]) -> bytes | None:
        connection = self._connection
        connection.search(
            search.base,
            search.filter,
            search_scope=ldap3.BASE if search.just_base else ldap3.SUBTREE,
            attributes=list(search.attributes),
            paged_size=None if search.just_base else min(PAGE, search.limit + 1),
            paged_cookie=cookie,
        )
        result = connection.result
        if result["result"] in SERVER_TROUBLE:
            raise SessionBroken(f"it says {_words(result)}")
        if result["result"] != SUCCESS:
            raise SearchFailed(_search_words(result, search))
        found.extend(
            Entry(
                answer["dn"],
                {name.lower(): tuple(values) for name, values in answer["raw_attributes"].items()},
            )
            for answer in connection.response
            # Active Directory adds references to its other partitions (searchResRef).
            if answer["type"] == "searchResEntry"
        )
        control = result.get("controls", {}).get(_PAGED)
        return control["value"]["cookie"] if control else None

    def close(self) -> None:
        """Close the socket."""
        _hang_up(self._connection)


def _hang_up(connection: Any) -> None:
    # Not unbind(): it would write to a server that may not read any more.
    with suppress(OSError, LDAPExceptionError):
        if connection.socket is not None:
            connection.socket.close()


def _search_words(result: dict[str, Any], search: Search) -> str:
    if result["result"] == NO_SUCH_OBJECT:
        return f'there is no "{search.base}", or it is hidden from this login'
    return _words(result)


def _words(result: dict[str, Any]) -> str:
    description, message = result.get("description", "nothing"), str(result.get("message") or "").strip("\0 ")
    text = f"{description} ({message})" if message else f"{description}"
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:300]


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what ldap3 raises into our own."""
    try:
        yield
    except (SessionBroken, SearchFailed):
        raise
    except (LDAPCertificateError, LDAPStartTLSError, ssl.SSLError) as error:
        if "timed out" in str(error):
            raise SessionTimeout("no answer in time") from error
        raise LoginRefused(f"no encrypted connection: {error}") from error
    except (TimeoutError, LDAPSocketReceiveError) as error:
        if isinstance(error, TimeoutError) or "timed out" in str(error):
            raise SessionTimeout("no answer in time") from error
        raise SessionBroken(f"{error}") from error
    except (LDAPExceptionError, OSError) as error:
        text = str(error) or type(error).__name__
        if "timed out" in text:
            raise SessionTimeout("no answer in time") from error
        if "CERTIFICATE_VERIFY_FAILED" in text or "ertificate" in text:
            raise LoginRefused(f"no encrypted connection: {text}") from error
        raise SessionBroken(text) from error
