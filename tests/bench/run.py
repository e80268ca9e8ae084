"""``make bench``: works with mailsigil installed, and from a checkout that is not."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
PLACES = [str(TESTS), str(TESTS.parent / "milter")]

if __name__ == "__main__":
    sys.path[:0] = PLACES
    # The programs that are measured are started from here and must find the same code.
    os.environ["PYTHONPATH"] = os.pathsep.join([*PLACES, *filter(None, [os.environ.get("PYTHONPATH")])])
    raise SystemExit(importlib.import_module("bench.suite").main())
