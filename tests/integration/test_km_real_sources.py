"""``mailsigil km test`` against the real source of each kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from integration import test_sources_signed_mail as sources
from mailsigil.cli.km import command
from servers.ca_serve import PASSWORD, CaServe
from servers.openbao import OpenBao

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("sources")]
ISSUING = ("embedded", "pki", "maker", "est", "cmp", "tokenca", "transitca")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("km")
    with ExitStack() as stack:
        builder = sources._Builder(home, stack)
        if "kv" in sources.HERE:
            builder.bao = stack.enter_context(OpenBao(builder.folder_of("bao")))
        makers = {kind: getattr(builder, "cmp_" if kind == "cmp" else kind) for kind in sources.HERE}
        text = "".join(makers[kind]() for kind in sources.HERE)
        path = home / "mailsigil.toml"
        path.write_text(text)
        yield path


def km(config: Path, source: str, address: str) -> tuple[int, dict[str, str], str]:
    done = CliRunner().invoke(
        command, ["test", source, "--address", address, "--config", str(config), "--json"]
    )
    report = json.loads(done.output)
    lines = {line["operation"]: line["outcome"] for line in report["lines"] if line["outcome"] != "note"}
    return done.exit_code, lines, done.output


@pytest.mark.parametrize("kind", sources.KINDS)
def test_each_real_source_passes(config: Path, kind: str) -> None:
    if sources._missing(kind):
        pytest.skip(sources._missing(kind))
    status, lines, text = km(config, kind, f"alice@{kind}.example")
    assert status == 0, text
    assert lines.keys() >= {"certificate", "sign", "verify"}
    assert ("the keys of this test stay" in text) == (kind in ("tokenca", "transitca"))
    if kind in ISSUING:
        assert lines["re-enrol"] == "passed"
        assert lines["revoke"] == ("not offered" if kind == "est" else "passed")


@pytest.mark.parametrize("keygen", ["false", "true"], ids=["enrol", "serverkeygen"])
def test_our_client_and_our_server(tmp_path: Path, keygen: str) -> None:
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    path = tmp_path / "mailsigil.toml"
    with CaServe(tmp_path / "house") as server:
        path.write_text(
            f'[[trust]]\nname = "own"\nfiles = ["{server.root}"]\nasserts = ["mailsigil"]\n'
            '[[source]]\nname = "own"\nkind = "est"\ndomains = ["bank.example"]\n'
            f'[source.est]\nurl = "{server.url}"\nca_file = "{server.root}"\nusername = "keyd"\n'
            f'password_file = "{password}"\nserver_keygen = {keygen}\n'
            '[source.enrolment]\nlevel = "V3"\norganisation = "Example Bank"\n'
        )
        status, lines, text = km(path, "own", "alice@bank.example")
    assert status == 0, text
    assert "a trial mail is V3 of alice@bank.example" in text
    assert lines["csrattrs"] == "passed"
