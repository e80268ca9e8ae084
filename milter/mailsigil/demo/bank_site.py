"""A mail site whose people are in LDAP alone: no key, no certificate, and nobody who makes any by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from mailsigil.demo.bank import Personnel, bank_directory, directory_lines, lifecycle_lines, source_lines
from mailsigil.demo.saslauthd import Saslauthd
from mailsigil.demo.site import Site


class BankSite:
    """slapd, and a :class:`Site` that gets everything from it. Started on entry, stopped on exit.

    ``entries`` are in the directory from the beginning. Who is in it logs in with the password there; with
    ``logins``, these people log in instead, whatever the directory says. ``lifecycle`` and ``directory`` are
    more keys for these two sections.
    """

    def __init__(
        self,
        folder: Path,
        *,
        entries: Sequence[str] = (),
        logins: Sequence[str] = (),
        founded: datetime | None = None,
        lifecycle: Mapping[str, object] | None = None,
        directory: Mapping[str, object] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._logins = tuple(logins)
        self._founded = founded
        self._lifecycle = dict(lifecycle or {})
        self._directory = dict(directory or {})
        self._settings = dict(settings or {})
        self.server = bank_directory(folder / "slapd", *entries)
        self.personnel = Personnel(self.server)
        self.authority = folder / "mailsigil" / "ca"
        self.keys = folder / "mailsigil" / "keys"
        """The folder for keys that an administrator brings: empty, and stays so."""
        self.site: Site

    def __enter__(self) -> BankSite:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        stack.enter_context(self.server)
        saslauthd = None
        if not self._logins:
            self._folder.chmod(0o755)  # Postfix's own user has to reach the socket
            saslauthd = stack.enter_context(Saslauthd(self._folder / "logins", self.server)).socket
        lists = [str(self.authority / f"{name}.crl") for name in ("issuing", "root")]
        settings = {
            "[directory]": directory_lines(self.server, **self._directory),
            "[source]": source_lines(self.authority, self._folder / "state"),
            "lifecycle": lifecycle_lines(self._folder / "db" / "lifecycle.db", **self._lifecycle),
            "revocation": "fetch = false\n",
            "trust": "crls = [" + ", ".join(f'"{path}"' for path in lists) + "]\n",
            **self._settings,
        }
        self.keys.mkdir(parents=True)
        self.site = Site(
            self._folder,
            employees=(),
            logins=self._logins,
            saslauthd=saslauthd,
            founded=self._founded,
            policy="# Everything is in the directory.\n",
            settings=settings,
        )
        stack.enter_context(self.site)
