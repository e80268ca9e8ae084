"""OpenBao and Vault over HTTP: login, renewal of the token, and errors in the administrator's words."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from mailsigil.keys.errors import SourceAnswer, SourceError, SourceRefused, SourceUnavailable
from mailsigil.keys.secret_files import SecretFile
from mailsigil.keys.sources.http import Answer, HttpClient

log = logging.getLogger("mailsigil.keyd")

_RENEW_AT: Final = 0.5
"""Part of a token's life after which it is renewed."""
MAX_BRACKETS: Final = 2000


class TokenLogin:
    """Uses a token that an administrator made; it is renewed as long as it lets itself be renewed."""

    def __init__(self, token: SecretFile) -> None:
        self._token = token

    def log_in(self, client: BaoClient) -> tuple[str, float, bool]:
        """Gives the token, its seconds, and whether it can be renewed. Seconds of 0 are without an end."""
        token = self._token.read().decode("ascii", "replace")
        told = client.exchange("GET", "auth/token/lookup-self", token=token)
        data = client.table(told, "data")
        return token, _seconds(data.get("ttl")), bool(data.get("renewable"))


class AppRoleLogin:
    """Logs in as an application."""

    def __init__(self, *, mount: str, role_id: str, secret_id: SecretFile) -> None:
        self._path = f"auth/{quote(mount.strip('/'), safe='/')}/login"
        self._role_id = role_id
        self._secret_id = secret_id

    def log_in(self, client: BaoClient) -> tuple[str, float, bool]:
        """Gives a fresh token, its seconds, and whether it can be renewed."""
        secret = self._secret_id.read().decode("ascii", "replace")
        told = client.exchange("POST", self._path, {"role_id": self._role_id, "secret_id": secret})
        return fresh_token(client, told)


class CertificateLogin:
    """Logs in with the TLS client certificate of the connection."""

    def __init__(self, *, mount: str, role: str) -> None:
        self._path = f"auth/{quote(mount.strip('/'), safe='/')}/login"
        self._role = role

    def log_in(self, client: BaoClient) -> tuple[str, float, bool]:
        """Gives a fresh token, its seconds, and whether it can be renewed."""
        told = client.exchange("POST", self._path, {"name": self._role} if self._role else {})
        return fresh_token(client, told)


def fresh_token(client: BaoClient, told: Mapping[str, Any]) -> tuple[str, float, bool]:
    """Reads the answer to a login. Raises SourceAnswer."""
    auth = client.table(told, "auth")
    token = auth.get("client_token")
    if not isinstance(token, str) or not token.isprintable() or not token:
        raise SourceAnswer(client.source, "the login brought no token", "Look at the login's settings there")
    return token, _seconds(auth.get("lease_duration")), bool(auth.get("renewable"))


Login = TokenLogin | AppRoleLogin | CertificateLogin


class BaoClient:
    """Asks one server, logged in. Safe to share between threads. ``clock`` gives monotonic seconds."""

    def __init__(
        self,
        http: HttpClient,
        login: Login,
        *,
        namespace: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._login = login
        self._namespace = namespace
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = float("inf")
        self._ends_at = float("inf")

    @property
    def source(self) -> str:
        """The source's name."""
        return self._http.source

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        must_exist: bool = False,
        once: bool = False,
    ) -> Mapping[str, Any]:
        """Makes a request and gives the answer's ``data``; {} where there is nothing of this name.

        With ``must_exist`` that is SourceRefused, too. ``once`` is for what must not be done twice (http.py).
        A token that is no longer good is replaced by a new login, once. Raises SourceError.
        """
        token = self._valid_token()
        answer = self._send(method, path, body, token, once=once)
        if answer.status == 403:
            # The token may have been revoked, or its time ended; a policy that forbids it says no again.
            with self._lock:
                if self._token == token:
                    self._token = ""
            # Refused is not done: to ask again does nothing twice.
            answer = self._send(method, path, body, self._valid_token(), once=once)
        if answer.status == 404 and not must_exist:
            return {}
        told = self._checked(answer, path)
        return self.table(told, "data") if told else {}

    def forget(self) -> None:
        """Logs in anew with the next request."""
        with self._lock:
            self._token = ""

    def exchange(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, token: str = ""
    ) -> Mapping[str, Any]:
        """Makes a request with this token, or none. Raises SourceError, also for a 404."""
        return self._checked(self._send(method, path, body, token), path)

    def table(self, told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        """Gives a part of an answer that must be a JSON object. Raises SourceAnswer."""
        part = told.get(name)
        if not isinstance(part, dict):
            raise SourceAnswer(
                self.source, f'the answer has no "{name}"', "See that the URL is that of OpenBao or Vault"
            )
        return part

    def _valid_token(self) -> str:
        with self._lock:
            now = self._clock()
            if self._token and now >= self._ends_at:
                self._token = ""
            if self._token and now >= self._renew_at:
                self._renew(now)
            if not self._token:
                token, seconds, renewable = self._login.log_in(self)
                self._keep(token, seconds, renewable, now)
            return self._token

    def _renew(self, now: float) -> None:
        try:
            auth = self.table(self.exchange("POST", "auth/token/renew-self", {}, token=self._token), "auth")
            self._keep(self._token, _seconds(auth.get("lease_duration")), bool(auth.get("renewable")), now)
        except SourceUnavailable:
            raise
        except SourceError as error:
            log.warning("%s The login is made anew.", error)
            self._token = ""

    def _keep(self, token: str, seconds: float, renewable: bool, now: float) -> None:
        self._token = token
        self._ends_at = now + seconds if seconds > 0 else float("inf")
        self._renew_at = now + seconds * _RENEW_AT if seconds > 0 and renewable else float("inf")

    def _send(
        self, method: str, path: str, body: Mapping[str, object] | None, token: str, *, once: bool = False
    ) -> Answer:
        headers = {"X-Vault-Request": "true", "Content-Type": "application/json"}
        if token:
            headers["X-Vault-Token"] = token
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        content = None if body is None else json.dumps(body).encode()
        return self._http.request(method, f"/v1/{path}", body=content, headers=headers, once=once)

    def _checked(self, answer: Answer, path: str) -> Mapping[str, Any]:
        if answer.status == 204:
            return {}
        told = self._json(answer)
        if answer.status in (200, 202):
            return told
        errors = told.get("errors")
        said = "; ".join(str(each) for each in errors[:3]) if isinstance(errors, list) else ""
        said = " ".join(said.split())[:200] or "no reason is given"
        match answer.status:
            case 403:
                raise SourceRefused(
                    self.source,
                    f"it does not permit {path}: {said}",
                    "Renew the login, and see that its policy permits this path",
                )
            case 429 | 472 | 473 | 500 | 502 | 503 | 504:
                raise SourceUnavailable(
                    self.source,
                    f"it is sealed, in standby or overloaded ({answer.status}): {said}",
                    "Unseal it, or name the active server",
                )
            case _:
                raise SourceRefused(
                    self.source,
                    f"it refuses {path} ({answer.status}): {said}",
                    "Correct mount, role or key_path, or the settings there",
                )

    def _json(self, answer: Answer) -> Mapping[str, Any]:
        start = answer.body.lstrip()[:1]
        if not answer.body and answer.status == 200:
            raise SourceAnswer(
                self.source, "the answer is empty", "See that the URL is that of OpenBao or Vault"
            )
        try:
            if answer.body.count(b"{") + answer.body.count(b"[") > MAX_BRACKETS:
                raise ValueError("too deep")
            told = json.loads(answer.body or b"{}")
        except (ValueError, RecursionError) as error:
            what = "HTML" if start == b"<" else "something cut off, or no JSON"
            raise SourceAnswer(
                self.source,
                f"the answer is {what} instead of JSON",
                "See that the URL is that of OpenBao or Vault, and that no proxy is between",
            ) from error
        if not isinstance(told, dict):
            raise SourceAnswer(self.source, "the answer is no JSON object", "Correct the URL")
        return told


def _seconds(value: object) -> float:
    """A token's life; what is no number is taken for one without an end, which a refusal ends."""
    return float(value) if isinstance(value, int | float) and value > 0 else 0.0
