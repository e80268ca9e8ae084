"""A connection as a stream of octets with a deadline, in the clear or inside TLS.

Each wait is for what is left until the deadline, so that a client who sends an octet now and then gains
nothing by it.
"""

from __future__ import annotations

import contextlib
import io
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography import x509
from OpenSSL import SSL

_T = TypeVar("_T")
_READABLE: Final = select.POLLIN
_WRITABLE: Final = select.POLLOUT
# RFC 9325 4.2.1: with TLS 1.2 nothing but ephemeral keys and authenticated encryption.
_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"


def tls_context(certificate: Path) -> SSL.Context:
    """Makes the server's side of TLS from a PEM file with key and certificate. Raises SSL.Error, OSError."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(_CIPHERS)
    context.use_privatekey_file(str(certificate))
    context.use_certificate_file(str(certificate))
    # TLS shows that the client has the key of its certificate, and that is all that is asked of it: a
    # certificate for mail is none for TLS clients in OpenSSL's eyes (emailProtection alone). Whether it is
    # one of ours, valid and not revoked is looked up in the register (est.py).
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    return context


class Stream(io.RawIOBase):
    """One connection. Not to be shared between threads. Raises TimeoutError, ConnectionError."""

    def __init__(self, connected: socket.socket, context: SSL.Context | None) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._tls: SSL.Connection | None = None
        if context is not None:
            self._tls = SSL.Connection(context, connected)
            self._tls.set_accept_state()
        self.deadline = 0.0
        """In the time of :func:`time.monotonic`."""

    def handshake(self) -> None:
        """Does what comes before the first octet."""
        if self._tls is not None:
            self._patiently(self._tls.do_handshake, _READABLE)

    def client_certificate(self) -> x509.Certificate | None:
        """Gives the certificate whose key the client has shown to hold."""
        if self._tls is None:
            return None
        try:
            return self._tls.get_peer_certificate(as_cryptography=True)
        except ValueError:
            return None  # One that cannot be read is none of ours.

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads what there is; 0 at the end."""
        end: SSL.Connection | socket.socket = self._tls or self._socket
        return self._patiently(lambda: end.recv_into(buffer), _READABLE)

    def write(self, data: Any) -> int:
        """Writes some of the octets, and tells how many."""
        end: SSL.Connection | socket.socket = self._tls or self._socket
        octets = bytes(data)
        return self._patiently(lambda: end.send(octets), _WRITABLE)

    def close(self) -> None:
        """Says good-bye, without waiting for an answer, and closes the socket."""
        if not self.closed:
            if self._tls is not None:
                with contextlib.suppress(SSL.Error, OSError):  # The other side may have gone already.
                    self._tls.shutdown()
            self._socket.close()
        super().close()

    def _patiently(self, action: Callable[[], _T], direction: int) -> _T:
        while True:
            try:
                return action()
            except (SSL.WantReadError, SSL.WantWriteError, BlockingIOError) as wish:
                if isinstance(wish, SSL.WantReadError):
                    direction = _READABLE
                elif isinstance(wish, SSL.WantWriteError):
                    direction = _WRITABLE
                self._wait(direction)
            except (SSL.ZeroReturnError, SSL.SysCallError) as error:
                raise ConnectionResetError("the client has gone") from error
            except SSL.Error as error:
                raise ConnectionError(_reason(error)) from error

    def _wait(self, direction: int) -> None:
        left = self.deadline - time.monotonic()
        poll = select.poll()
        poll.register(self._socket, direction)
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError("the client was too slow")


def _reason(error: SSL.Error) -> str:
    entries = error.args[0] if error.args else []
    return ", ".join(str(entry[2]) for entry in entries) or "TLS failed"
