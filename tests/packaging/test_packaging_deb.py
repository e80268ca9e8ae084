"""The Debian package: built once as the page says, looked into, and lived with on a sandboxed machine."""

from __future__ import annotations

import csv
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from conftest import ROOT
from integration.first_mail import commands
from servers.sandbox import UNSHARE, why_not

pytestmark = [
    pytest.mark.integration,
    pytest.mark.xdist_group("deb"),
    pytest.mark.skipif(shutil.which("dpkg-shlibdeps") is None, reason="dpkg-dev is not installed"),
]
LIFE = Path(__file__).with_name("deb_life.py")
NAMES = ("CHANGELOG.md", "LICENSE", "Makefile", "README.md", "pyproject.toml")
FOLDERS = ("contrib", "milter", "packaging", "policies")
OFFLINE = ("Temporary failure in name resolution", "No matching distribution found", "Failed to establish")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@dataclass(frozen=True, slots=True)
class Built:
    """The package, and what is in it."""

    project: Path
    """The copy of the project that it was built from."""
    file: Path
    tree: Path

    @property
    def packages(self) -> Path:
        """Where its Python packages are."""
        (found,) = self.tree.glob("opt/mailsigil/lib/python3*/site-packages")
        return found

    def field(self, name: str) -> str:
        """A field of the control file."""
        command = ["dpkg-deb", "--field", self.file, name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def built() -> Iterator[Built]:
    # Not pytest's folder: the services' own users have to come here.
    folder = Path(tempfile.mkdtemp(prefix="mailsigil-package-"))
    folder.chmod(0o755)
    project = folder / "project"
    project.mkdir()
    for name in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, project / name, ignore=ignore)
    for name in NAMES:
        shutil.copy2(ROOT / name, project)
    command = commands(ROOT)[0].text.splitlines()[0]
    done = subprocess.run(["bash", "-c", command], cwd=project, capture_output=True, text=True, timeout=600)
    said = done.stdout + done.stderr
    try:
        if done.returncode != 0 and any(words in said for words in OFFLINE):
            pytest.skip("there is no network to install Python packages from")
        assert done.returncode == 0, said
        (file,) = project.glob("dist/*.deb")
        subprocess.run(["dpkg-deb", "--raw-extract", file, folder / "tree"], check=True)
        yield Built(project, file, folder / "tree")
    finally:
        shutil.rmtree(folder)


def test_its_fields(built: Built) -> None:
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert built.file.name == f"mailsigil_{VERSION}-1_{architecture}.deb"
    assert (built.field("Version"), built.field("Architecture")) == (f"{VERSION}-1", architecture)
    assert built.field("Recommends") == "postfix"
    depends = set(re.findall(r"[a-z0-9.+-]+(?= \(|,|$)", built.field("Depends")))
    assert {"python3", "passwd", "libc6", "libsystemd0"} <= depends
    assert any(name.startswith("libmilter1.0.1") for name in depends)
    minor = int(built.packages.parent.name.removeprefix("python3."))
    assert f"python3 (>= 3.{minor}~), python3 (<< 3.{minor + 1}~)" in built.field("Depends")


def test_the_administrators_files(built: Built) -> None:
    listed = (built.tree / "DEBIAN" / "conffiles").read_text().splitlines()
    assert listed == ["/etc/mailsigil/mailsigil.toml", "/etc/mailsigil/policy.toml"]
    assert sorted(f"/{path.relative_to(built.tree)}" for path in built.tree.glob("etc/**/*.*")) == listed


def test_owners_and_modes(built: Built) -> None:
    command = ["dpkg-deb", "--contents", built.file]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    kinds = set()
    for line in lines:
        mode, owner, *_, path = line.split(maxsplit=5)
        assert owner == "root/root", line
        assert mode[0] == "l" or mode in {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x"}, line
        if mode == "-rwxr-xr-x":
            kinds.add(path)
    assert kinds == {
        "./opt/mailsigil/bin/mailsigil",
        "./usr/share/mailsigil/contrib/dovecot/fallback/mailsigil-script-login",
    }


def test_nothing_tells_where_it_was_built(built: Built) -> None:
    words = ("-e", str(built.project), "-e", "mailsigil-deb.", "-e", "pip-wheel-")
    command = ["grep", "-rlF", *words, str(built.tree)]
    assert subprocess.run(command, capture_output=True, text=True).stdout == ""
    assert not list(built.packages.glob("*.dist-info/direct_url.json"))


def test_the_environment_holds_what_is_needed_and_no_more(built: Built) -> None:
    home = built.tree / "opt" / "mailsigil"
    assert {path.name for path in home.iterdir()} == {"bin", "lib", "lib64", "pyvenv.cfg", "share"}
    scripts = {path.name for path in (home / "bin").iterdir()}
    assert scripts == {"mailsigil", "python", "python3", built.packages.parent.name}
    assert (home / "bin" / "python3").readlink() == Path("/usr/bin/python3")
    assert (home / "bin" / "mailsigil").read_text().startswith("#!/opt/mailsigil/bin/python3\n")
    assert "/opt/mailsigil" in (home / "pyvenv.cfg").read_text()
    there = {path.name for path in built.packages.iterdir()}
    assert not there & {"pip", "setuptools", "pkg_resources", "wheel"}
    assert "psycopg_binary" in there
    listed = (built.tree / "usr/share/doc/mailsigil/python-packages").read_text().splitlines()
    assert f"mailsigil {VERSION} (GPL-3.0-or-later)" in listed
    assert len(listed) == len(list(built.packages.glob("*.dist-info")))


def test_its_lists_of_files_are_right(built: Built) -> None:
    for record in built.packages.glob("*.dist-info/RECORD"):
        for name, digest, _ in csv.reader(record.open(newline="", encoding="utf-8")):
            content = (built.packages / name).read_bytes()
            if digest:
                found = urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()
                assert digest == f"sha256={found}", f"{record}: {name}"


def test_python_compiles_nothing_anew(built: Built) -> None:
    tag = "cpython-" + built.packages.parent.name.removeprefix("python").replace(".", "")
    sources = list(built.packages.rglob("*.py"))
    assert len(sources) > 500
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"
        if not compiled.exists():  # A template, which is no Python, or Python of another version.
            assert "mailsigil" not in source.relative_to(built.packages).parts, source
            continue
        header = compiled.read_bytes()[:16]
        written = (int.from_bytes(header[8:12], "little"), int.from_bytes(header[12:16], "little"))
        assert written == (int(source.stat().st_mtime), source.stat().st_size), source


def test_units_and_lists_are_those_of_the_project(built: Built) -> None:
    for path in [*(ROOT / "packaging").glob("*.service"), *(ROOT / "packaging").glob("*.socket")]:
        assert (built.tree / "usr/lib/systemd/system" / path.name).read_bytes() == path.read_bytes()
    for kind in ("sysusers", "tmpfiles"):
        there = built.tree / "usr" / "lib" / f"{kind}.d" / "mailsigil.conf"
        assert there.read_bytes() == (ROOT / "packaging" / f"mailsigil.{kind}").read_bytes()
    manual = built.tree / "usr/share/man/man1/mailsigil.1.gz"
    assert gzip.decompress(manual.read_bytes()) == (ROOT / "packaging/man/mailsigil.1").read_bytes()


def test_its_pages_are_whole(built: Built) -> None:
    pages = list((built.tree / "usr/share/mailsigil").rglob("*.md"))
    assert {"LIFECYCLE.md", "SOURCES.md", "VERDICTS.md", "CHANGELOG.md"} <= {page.name for page in pages}
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page}: {link}"
    documentation = built.tree / "usr/share/doc/mailsigil"
    assert (documentation / "README.md").read_bytes() == (ROOT / "README.md").read_bytes()
    assert (documentation / "contrib" / "postfix" / "README.md").is_file()
    changes = gzip.decompress((documentation / "changelog.Debian.gz").read_bytes()).decode()
    assert changes.startswith(f"mailsigil ({VERSION}-1) ")


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.skipif(not Path("/usr/sbin/postfix").exists(), reason="Postfix is not installed")
def test_from_installation_to_purge(built: Built) -> None:
    folder = built.project.parent
    control = built.tree / "DEBIAN" / "control"
    control.write_text(control.read_text().replace(f"Version: {VERSION}-1\n", f"Version: {VERSION}-2\n"))
    newer = folder / "newer.deb"
    command: list[str | Path] = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", built.tree, newer]
    subprocess.run(command, check=True, capture_output=True)
    work = folder / "work"
    work.mkdir()
    done = subprocess.run(
        [*UNSHARE, sys.executable, str(LIFE), *map(str, (ROOT, work, built.project, newer))],
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'milter'}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd="/",
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
