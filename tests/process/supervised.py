"""A program with a supervisor for the tests: ``supervised.py FOLDER SCENARIO``."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

from mailsigil.process.control import WorkerControl
from mailsigil.process.supervisor import Supervisor

folder, scenario = Path(sys.argv[1]), sys.argv[2]


def note(text: str) -> None:
    with (folder / "events").open("a") as events:
        events.write(f"{text} {os.getpid()}\n")


def steady(control: WorkerControl) -> None:
    note("start")
    control.serve(
        on_reload=lambda handed: note(f"reload-{handed.decode()}"), on_retire=lambda: note("retire")
    )


def stubborn(control: WorkerControl) -> None:
    note("start")
    control.serve(finished=lambda: False)


def failing(_control: WorkerControl) -> None:
    note("start")
    raise ValueError("cannot begin")


def flaky(control: WorkerControl) -> None:
    """The first one fails, the later ones live."""
    note("start")
    if (folder / "events").read_text().count("start") == 1:
        os._exit(3)
    control.serve()


def recycling(control: WorkerControl) -> None:
    note("start")
    if (folder / "events").read_text().count("start") == 1:
        control.retiring()
    control.serve(finished=lambda: (folder / "go").exists())


def slow(control: WorkerControl) -> None:
    """Its main thread has a loop of its own."""
    note("start")
    stop = False

    def end() -> None:
        nonlocal stop
        stop = True

    control.start(on_retire=end)
    while not stop:
        time.sleep(0.01)
    note("end")


def beside(control: WorkerControl) -> None:
    """Other work in a process of its own, which fails at first."""
    note("beside")
    if (folder / "events").read_text().count("beside") < 3:
        raise ValueError("cannot begin")
    control.serve(on_reload=lambda handed: note("other-reload"), on_retire=lambda: note("other-retire"))


def on_reload() -> bytes:
    note("supervisor-reload")
    if (folder / "refuse").exists():
        raise ValueError("bad settings")
    return b"settings"


def main() -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    return Supervisor(
        spawn=steady if scenario == "beside" else globals()[scenario],
        count=2 if scenario in ("steady", "slow", "beside") else 1,
        beside=[beside] if scenario == "beside" else (),
        drain_seconds=0.5,
        on_reload=on_reload,
        on_stop=lambda: note("stop"),
    ).run()


if __name__ == "__main__":
    sys.exit(main())
