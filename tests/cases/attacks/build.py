"""Builds the forged mails of this folder, their table, and the one anchor.

``python tests/cases/attacks/build.py`` writes them, ``--check`` only compares. The same octets come out
each time: keys are derived from names, times are fixed, signatures are deterministic.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import beside
import contents
import genuine
import headers
import signers
import structures
from cryptography.hazmat.primitives.serialization import Encoding
from forge import authority

FOLDER = Path(__file__).resolve().parent
HEAD = """\
# Every mail of this folder: the reason that must be given for it, "" for a genuine one, and what it is.
# Written by build.py.
"""


def files() -> dict[str, bytes]:
    """File name and content of everything."""
    found: dict[str, bytes] = {"anchor.pem": authority().certificate.public_bytes(Encoding.PEM)}
    lines = [HEAD]
    for room in (genuine, structures, beside, contents, signers, headers):
        for name, expected, why, raw in room.cases():
            if f"{name}.eml" in found:
                raise ValueError(f"two mails are called {name}")
            found[f"{name}.eml"] = raw
            lines.append(f"[{name}]\nreason = {json.dumps(expected)}\nwhy = {json.dumps(why)}\n")
    found["table.toml"] = "\n".join(lines).encode()
    return found


def main() -> int:
    """Write or compare. Gives the exit status."""
    built = files()
    there = {path.name for pattern in ("*.eml", "*.pem", "*.toml") for path in FOLDER.glob(pattern)}
    different = [
        name for name, data in built.items() if name not in there or (FOLDER / name).read_bytes() != data
    ]
    surplus = sorted(there - set(built))
    if "--check" not in sys.argv:
        for name in different:
            (FOLDER / name).write_bytes(built[name])
        for name in surplus:
            (FOLDER / name).unlink()
        return 0
    for name in (*different, *surplus):
        print(f"{name} is not what build.py makes")
    return 1 if different or surplus else 0


if __name__ == "__main__":
    raise SystemExit(main())
