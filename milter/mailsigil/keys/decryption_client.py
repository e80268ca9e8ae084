"""The client of the decryption desk: the delivery filter's side."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mailsigil.cms.recipients import WrappedKey
from mailsigil.keys.client import RETRY_DELAYS
from mailsigil.keys.connection import Connection
from mailsigil.keys.decryption_protocol import (
    DecryptionCertificate,
    FindRequest,
    UnwrapRequest,
    decode_found,
    decode_key,
    encode_find,
    encode_unwrap,
)
from mailsigil.keys.errors import KeyAgentUnavailable, ProtocolError


class DecryptionClient:
    """Asks the key agent on its delivery socket. Safe to share between threads, and across a fork.

    ``timeout`` bounds each call in seconds. An agent that is being restarted is waited for, about a second.
    """

    def __init__(
        self,
        socket_path: str | os.PathLike[str],
        *,
        timeout: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = os.fspath(socket_path)
        self._timeout = timeout
        self._sleep = sleep

    def find(self, address: str) -> tuple[DecryptionCertificate, ...]:
        """Gives the certificates that mail to an address can be encrypted to.

        Raises KeyAgentUnavailable or KeyAgentRefused.
        """
        with self._understood():
            return decode_found(self._exchange(encode_find(FindRequest(address))))

    def unwrap(self, *, address: str, key_id: str, wrapped: WrappedKey, size: int) -> bytes:
        """Gives the key of a content. Raises KeyAgentUnavailable or KeyAgentRefused."""
        request = UnwrapRequest(address=address, key_id=key_id, wrapped=wrapped, size=size)
        with self._understood():
            return decode_key(self._exchange(encode_unwrap(request)))

    def _exchange(self, payload: bytes) -> bytes:
        with self._connected() as end:
            connection = Connection(end)
            try:
                connection.send(payload, within=self._timeout)
                answer = connection.receive(wait=self._timeout, within=self._timeout)
            except OSError as error:
                raise KeyAgentUnavailable(
                    f"the key agent at {self._path} does not answer: {error}"
                ) from error
        if answer is None:
            raise KeyAgentUnavailable(f"the key agent at {self._path} closed the connection")
        return answer

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        for delay in (*RETRY_DELAYS, None):
            end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                end.connect(self._path)
            except OSError as error:
                end.close()
                if delay is None or not isinstance(error, ConnectionRefusedError | FileNotFoundError):
                    reason = error.strerror or str(error)
                    raise KeyAgentUnavailable(
                        f"the key agent at {self._path} cannot be reached: {reason}"
                    ) from error
                self._sleep(delay)
                continue
            with end:
                yield end
            return

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except ProtocolError as error:
            raise KeyAgentUnavailable(f"the key agent at {self._path} was not understood: {error}") from error
