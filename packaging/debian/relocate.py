"""Makes a virtual environment in a package's root belong where it will be installed.

    relocate.py ROOT HOME LIST

ROOT/HOME is the environment, without pip. What names the folder of its building is rewritten or goes, and
with it what only people who develop would use: scripts of other packages, headers, their manual pages. LIST
gets the name, version and licence of each Python package.
"""

import base64
import csv
import hashlib
import shutil
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

SCRIPT = """\
#!{home}/bin/python3
import sys
from mailsigil.cli.main import main
sys.exit(main())
"""
KEPT = ("bin", "lib", "lib64", "pyvenv.cfg", "share")


def main() -> None:
    root, home, listed = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    environment = root / home.lstrip("/")
    _tidy(environment)
    (environment / "bin" / "mailsigil").write_text(SCRIPT.format(home=home))
    config = environment / "pyvenv.cfg"
    config.write_text(config.read_text().replace(str(environment), home))
    (packages,) = environment.glob("lib/python3*/site-packages")
    for record in packages.glob("*.dist-info/RECORD"):
        _correct(record, packages)
    found = sorted(distributions(path=[str(packages)]), key=lambda each: each.metadata["Name"].lower())
    listed.write_text("".join(f"{_line(each)}\n" for each in found), encoding="utf-8")


def _tidy(environment: Path) -> None:
    for path in environment.iterdir():
        if path.name not in KEPT:
            _remove(path)
    for path in (environment / "bin").iterdir():
        if not path.name.startswith("python") and path.name != "mailsigil":
            path.unlink()
    for path in (environment / "share").iterdir():
        if path.name != "mailsigil":
            _remove(path)
    for path in environment.glob("lib/python3*/site-packages/*.dist-info/direct_url.json"):
        path.unlink()


def _remove(path: Path) -> None:
    # Newer Pythons put a .gitignore beside the folders.
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _correct(record: Path, packages: Path) -> None:
    """Leave out what is gone; the one script that was written anew has another hash."""
    with record.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if (packages / row[0]).exists()]
    for row in rows:
        if row[0].endswith("bin/mailsigil"):
            content = (packages / row[0]).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            row[1:] = [f"sha256={digest}", str(len(content))]
    with record.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(sorted(rows))


def _line(package: Distribution) -> str:
    stated = package.metadata
    first_line = (stated["License"] or "").partition("\n")[0]
    words = stated["License-Expression"] or _classified(package) or first_line
    return f"{stated['Name']} {stated['Version']} ({words or 'see its .dist-info folder'})"


def _classified(package: Distribution) -> str:
    classifiers = package.metadata.get_all("Classifier") or []
    return ", ".join(each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License ::"))


if __name__ == "__main__":
    main()
