"""The floor: a milter that is told everything mailsigil is told, and does nothing.

    null_milter.py SOCKET WORKERS

As many worker processes, the same callbacks, the same macros, the same protocol steps without an
answer. What a milter in Python costs with pymilter before it has done any work.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import Milter as lib

_ACTIONS = lib.ADDHDRS | lib.CHGHDRS | lib.CHGBODY | lib.SETSYMLIST
_SILENT = lib.P_NR_CONN | lib.P_NR_MAIL | lib.P_NR_RCPT | lib.P_NR_HDR | lib.P_NR_EOH | lib.P_NR_BODY
_UNUSED = lib.P_NOHELO | lib.P_NODATA | lib.P_NOUNKNOWN | lib.P_NOEOH


def negotiate(ctx: Any, options: list[int]) -> int:
    ctx.setsymlist(lib.M_CONNECT, "{daemon_name}")
    ctx.setsymlist(lib.M_ENVFROM, "{auth_authen} {mail_addr}")
    ctx.setsymlist(lib.M_EOM, "i")
    options[0] = _ACTIONS
    options[1] = lib.P_HDR_LEADSPC | _UNUSED | _SILENT
    options[2] = options[3] = 0
    return int(lib.CONTINUE)


def silent(_ctx: Any, *_arguments: Any) -> int:
    return int(lib.NOREPLY)


def go_on(_ctx: Any) -> int:
    return int(lib.CONTINUE)


def main(socket: str, workers: int) -> None:
    # The workers' signals are libmilter's affair; here they are waited for.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    for register in (
        lib.set_connect_callback,
        lib.set_envfrom_callback,
        lib.set_envrcpt_callback,
        lib.set_header_callback,
        lib.set_eoh_callback,
        lib.set_body_callback,
    ):
        register(silent)
    for register in (lib.set_eom_callback, lib.set_abort_callback, lib.set_close_callback):
        register(go_on)
    lib.set_flags(_ACTIONS)
    lib.setconn(f"unix:{socket}")
    lib.register("nothing", negotiate=negotiate)
    lib.setbacklog(256)
    lib.opensocket(False)
    os.chmod(socket, 0o666)
    children = []
    for _ in range(workers):
        child = os.fork()
        if child == 0:
            lib.main()
            os._exit(0)
        children.append(child)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    for child in children:
        os.kill(child, signal.SIGKILL)  # Asked politely, libmilter takes five seconds.
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
