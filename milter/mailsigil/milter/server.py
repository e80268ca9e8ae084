"""The milter protocol, translated. The only file that knows libmilter.

libmilter runs one thread for each connection and calls the functions below; each of them turns its
arguments into a call on the connection's :class:`Session`. What goes wrong while a message is collected
is kept until its end; there one place answers 451 and logs the queue id.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import Milter as lib

from mailsigil.milter.apply import apply_plan
from mailsigil.milter.listener import (
    InetAddress,
    ListenError,
    UnixAddress,
    clear_the_way,
    connections,
    descriptors,
    divert,
    find_listening,
    publish,
    tune,
)
from mailsigil.milter.log import log_failure, log_plan
from mailsigil.milter.session import Handler, Session, SessionLimits
from mailsigil.plan import Outcome

log = logging.getLogger("mailsigil.milter")

_NAME = "mailsigil"
_BACKLOG = 256
_ACTIONS = lib.ADDHDRS | lib.CHGHDRS | lib.CHGBODY
_MACRO_ACTION = lib.SETSYMLIST
_SILENT = lib.P_NR_CONN | lib.P_NR_MAIL | lib.P_NR_RCPT | lib.P_NR_HDR | lib.P_NR_EOH | lib.P_NR_BODY
"""Only the end of the message is answered: saves a round trip for each of the others."""
_UNUSED = lib.P_NOHELO | lib.P_NODATA | lib.P_NOUNKNOWN | lib.P_NOEOH
_MACROS = (
    (lib.M_CONNECT, b"{daemon_name}"),
    # {mail_addr} is always there. Without any macro for a message libmilter would keep those of the
    # message before, and with them its login.
    (lib.M_ENVFROM, b"{auth_authen} {mail_addr}"),
    (lib.M_EOM, b"i"),
)


class _Connection:
    """What is remembered of one connection from the host."""

    __slots__ = ("reply", "session")

    def __init__(self, session: Session, reply: int) -> None:
        self.session = session
        self.reply = reply


class MilterServer:
    """One listening socket and, after a fork, one worker's share of its connections.

    The parent calls :meth:`open` once. Each worker calls :meth:`start` and then only lets threads of
    libmilter run; it must end by ``os._exit``, because libmilter's own way to stop drops open sessions.
    """

    def __init__(self, *, limits: SessionLimits, current_handler: Callable[[], Handler]) -> None:
        self._limits = limits
        self._current_handler = current_handler
        self._on_connection: Callable[[], None] = _nothing
        self._fd = -1
        self._name: object = None

    # In the parent

    def open(self, address: UnixAddress | InetAddress, *, mode: int, group: str, owner: int = -1) -> None:
        """Bind and listen. ``owner`` is the user id that shall own a unix socket, -1 for the caller's.

        Raises :class:`ListenError`.
        """
        lib.set_connect_callback(self._connect)
        lib.set_envfrom_callback(self._envfrom)
        lib.set_envrcpt_callback(self._envrcpt)
        lib.set_header_callback(self._header)
        lib.set_eoh_callback(self._eoh)
        lib.set_body_callback(self._body)
        lib.set_eom_callback(self._eom)
        lib.set_abort_callback(self._abort)
        lib.set_close_callback(self._close)
        lib.set_exception_policy(lib.TEMPFAIL)
        lib.set_flags(_ACTIONS | _MACRO_ACTION)
        before = descriptors()
        umask = os.umask(0o177)
        try:
            if isinstance(address, UnixAddress):
                clear_the_way(address)
            lib.setconn(address.spec)
            lib.register(_NAME, negotiate=self._negotiate)
            lib.setbacklog(_BACKLOG)
            lib.opensocket(False)
        except lib.error as error:
            raise ListenError(f"cannot listen on {address.spec}: {error}") from error
        finally:
            os.umask(umask)
        self._fd = find_listening(descriptors() - before)
        self._name = tune(self._fd)
        if isinstance(address, UnixAddress):
            publish(address, mode=mode, group=group, owner=owner)

    # In a worker

    def start(self, *, on_connection: Callable[[], None], on_end: Callable[[], None]) -> None:
        """Serve connections in threads of libmilter's.

        ``on_connection`` is called for each new connection, ``on_end`` when libmilter gave up. The
        caller stays in the main thread with SIGTERM, SIGHUP and SIGINT not blocked: libmilter waits for
        them in a thread of its own and gets only what the main thread leaves.
        """
        self._on_connection = on_connection

        def run() -> None:
            try:
                lib.main()
            except lib.error as error:
                log.error("libmilter stopped: %s", error)
            finally:
                on_end()

        threading.Thread(target=run, name="libmilter", daemon=True).start()

    def stop_accepting(self) -> None:
        """Take no new connections; the open ones go on."""
        divert(self._fd)

    def idle(self) -> bool:
        """Whether no connection is open, also none that was accepted and has not spoken yet."""
        return connections(self._name) == 0

    # Callbacks

    def _negotiate(self, ctx: Any, options: list[int]) -> int:
        try:
            actions, steps = options[0], options[1]
            if actions & _ACTIONS != _ACTIONS or not steps & lib.P_HDR_LEADSPC:
                # Without leading spaces header bytes are not reproducible and DKIM cannot be checked.
                log.error("the host speaks too old a milter protocol: Postfix 2.6 or newer is needed")
                return int(lib.REJECT)
            silent = steps & _SILENT == _SILENT
            options[0] = _ACTIONS
            if actions & _MACRO_ACTION:
                options[0] |= _MACRO_ACTION
                for stage, names in _MACROS:
                    ctx.setsymlist(stage, names.decode())
            options[1] = lib.P_HDR_LEADSPC | (steps & _UNUSED) | (_SILENT if silent else 0)
            options[2] = options[3] = 0
            session = Session(limits=self._limits, current_handler=self._current_handler)
            ctx.setpriv(_Connection(session, lib.NOREPLY if silent else lib.CONTINUE))
            self._on_connection()
        except Exception as error:
            log_failure("-", error)
            return int(lib.REJECT)
        return int(lib.CONTINUE)

    def _connect(self, ctx: Any, _hostname: str, _family: int, address: Any) -> int:
        # (host, port, ...) for IPv4 and IPv6, a path or None for others.
        return _collect(ctx, lambda session: session.connect(_text_address(address)))

    def _envfrom(self, ctx: Any, sender: bytes, *_parameters: bytes) -> int:
        return _collect(
            ctx,
            lambda session: session.begin(
                _decoded(sender),
                login=ctx.getsymval("{auth_authen}") or "",
                daemon_name=ctx.getsymval("{daemon_name}") or "",
            ),
        )

    def _envrcpt(self, ctx: Any, recipient: bytes, *_parameters: bytes) -> int:
        return _collect(ctx, lambda session: session.add_recipient(_decoded(recipient)))

    def _header(self, ctx: Any, name: str, value: bytes) -> int:
        return _collect(ctx, lambda session: session.add_field(name.encode(), _crlf(value)))

    def _eoh(self, ctx: Any) -> int:
        return int(ctx.getpriv().reply)

    def _body(self, ctx: Any, chunk: bytes) -> int:
        return _collect(ctx, lambda session: session.add_body(chunk))

    def _eom(self, ctx: Any) -> int:
        """The end of a message: the one place where every error becomes a 451."""
        session = ctx.getpriv().session
        queue_id = "-"
        outcome = Outcome.TEMPFAIL
        actions = _Actions(ctx)
        try:
            queue_id = ctx.getsymval("i") or "-"
            plan = session.finish(queue_id)
            apply_plan(plan, actions)
            log_plan(queue_id, plan)
            outcome = plan.outcome
        except Exception as error:
            log_failure(queue_id, error)
            actions.setreply(outcome.code, outcome.status, outcome.text)
        finally:
            session.reset()
        if outcome is Outcome.ACCEPT:
            return int(lib.CONTINUE)
        return int(lib.TEMPFAIL if outcome.code.startswith("4") else lib.REJECT)

    def _abort(self, ctx: Any) -> int:
        ctx.getpriv().session.reset()
        return int(lib.CONTINUE)

    def _close(self, ctx: Any) -> int:
        connection = ctx.getpriv()
        if connection is not None:
            connection.session.reset()
            ctx.setpriv(None)
        return int(lib.CONTINUE)


class _Actions:
    """:class:`mailsigil.milter.apply.Actions` on libmilter."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx

    def insheader(self, index: int, name: str, value: str) -> None:
        self._ctx.addheader(name, value, index)

    def addheader(self, name: str, value: str) -> None:
        self._ctx.addheader(name, value)

    def chgheader(self, name: str, occurrence: int, value: str | None) -> None:
        self._ctx.chgheader(name, occurrence, value)

    def replacebody(self, chunk: bytes) -> None:
        self._ctx.replacebody(chunk)

    def setreply(self, code: str, status: str, text: str) -> None:
        # libmilter and the host take the text for a format.
        self._ctx.setreply(code, status, text.replace("%", "%%"))


def _collect(ctx: Any, step: Callable[[Session], None]) -> int:
    """One step before the end of the message; an error is kept for the end."""
    connection = ctx.getpriv()
    try:
        step(connection.session)
    except Exception as error:
        connection.session.fail(error)
    return int(connection.reply)


def _nothing() -> None:
    """Until a worker starts there is nobody to count connections."""


def _decoded(data: bytes) -> str:
    """Envelope octets as text; what is not UTF-8 (RFC 6531) stays recoverable and never matches."""
    return data.decode("utf-8", "surrogateescape")


def _text_address(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) else ""


def _crlf(value: bytes) -> bytes:
    """Folds come as LF from Postfix; inside the house they are CRLF, as on the wire."""
    if b"\n" not in value:
        return value
    return value.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
