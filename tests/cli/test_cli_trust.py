"""``mailsigil trust``: list, check and add authorities."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailsigil.cli.trust import command
from mailsigil.config.loading import load_settings

NOW = datetime.now(UTC).replace(microsecond=0)
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def _root(
    path: Path, *extensions: x509.ExtensionType, cn: str = "Root", days: int = 900, bits: int = 0
) -> Path:
    key = rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, cn)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(NOW - timedelta(days=2000))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (path.parent / f"{path.stem}.crl").write_bytes(
        x509.CertificateRevocationListBuilder()
        .issuer_name(name)
        .last_update(NOW - timedelta(days=20))
        .next_update(NOW - timedelta(days=10))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    return path


def _config(folder: Path, *entries: str) -> Path:
    path = folder / "mailsigil.toml"
    path.write_text("\n".join(f"[[trust]]\n{entry}" for entry in entries))
    return path


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_list_says_what_each_set_may(tmp_path: Path) -> None:
    root = _root(tmp_path / "root.pem")
    config = _config(
        tmp_path,
        f'name = "Bank"\nfiles = ["{root}"]\nlevel = "V3"\ndomains = ["bank.example"]\n'
        'revocation = "require"\n',
    )
    shown = _run("list", "--config", config)
    assert shown.exit_code == 0
    for text in ("Bank", "V3", "bank.example", "require", "EC secp256r1", "CN=Root"):
        assert text in shown.output
    (anchor,) = json.loads(_run("list", "--json", "--config", config).output)["anchors"]
    assert (anchor["level"], anchor["revocation"], anchor["self_signed"]) == ("V3", "require", True)


def test_an_empty_list_says_how_to_begin(tmp_path: Path) -> None:
    assert "mailsigil trust add" in _run("list", "--config", _config(tmp_path)).output


def test_nothing_is_wrong_with_a_good_root(tmp_path: Path) -> None:
    config = _config(tmp_path, f'name = "Bank"\nfiles = ["{_root(tmp_path / "root.pem")}"]\n')
    checked = _run("check", "--config", config)
    assert (checked.exit_code, checked.output) == (0, "1 authorities, 0 remarks\n")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"days": -3}, "expired on"),
        ({"days": 20}, "expires on"),
        ({"bits": 1024}, "too weak: its RSA key has 1024 bits"),
    ],
    ids=["expired", "soon", "weak"],
)
def test_problems_are_told(tmp_path: Path, given: dict[str, int], sentence: str) -> None:
    config = _config(tmp_path, f'name = "Bank"\nfiles = ["{_root(tmp_path / "root.pem", **given)}"]\n')
    checked = _run("check", "--config", config)
    assert checked.exit_code == 1
    assert sentence in checked.output


def test_an_authority_for_servers_only(tmp_path: Path) -> None:
    root = _root(tmp_path / "root.pem", x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))
    checked = _run("check", "--json", "--config", _config(tmp_path, f'name = "B"\nfiles = ["{root}"]\n'))
    (remark,) = json.loads(checked.output)["remarks"]
    assert remark["weight"] == "problem"
    assert "does not issue certificates for mail" in remark["sentence"]


def test_one_root_in_two_sets(tmp_path: Path) -> None:
    root = _root(tmp_path / "root.pem")
    other = tmp_path / "copy.pem"
    other.write_bytes(root.read_bytes())
    config = _config(tmp_path, f'name = "A"\nfiles = ["{root}"]\n', f'name = "B"\nfiles = ["{other}"]\n')
    checked = _run("check", "--config", config)
    assert checked.exit_code == 1
    assert 'stands in "A" already' in checked.output


def test_lists_that_are_of_no_use(tmp_path: Path) -> None:
    root = _root(tmp_path / "root.pem")
    files = f'["{tmp_path / "root.crl"}", "{tmp_path / "absent.crl"}"]'
    checked = _run(
        "check", "--config", _config(tmp_path, f'name = "A"\nfiles = ["{root}"]\ncrls = {files}\n')
    )
    assert checked.exit_code == 1
    assert "root.crl ran out on" in checked.output
    assert "absent.crl cannot be read" in checked.output


def test_add_prints_a_section_that_works(tmp_path: Path) -> None:
    root = _root(tmp_path / "given.pem")
    config = _config(tmp_path)
    given = ("--asserts", "mailsigil", "--domain", "bank.example", "--revocation", "require")
    done = _run("add", "Example Bank", root, *given, "--config", config)
    assert done.exit_code == 0
    config.write_text(done.stdout)
    entry = load_settings(config).trust[0]
    assert entry.files == (str(tmp_path / "trust" / "example-bank.pem"),)
    assert (entry.asserts, entry.domains, entry.revocation) == (("mailsigil",), ("bank.example",), "require")
    assert "SHA-256" in done.stderr
    assert _run("check", "--config", config).exit_code == 0


def test_add_takes_no_name_twice_and_no_certificate_of_a_sender(tmp_path: Path) -> None:
    root = _root(tmp_path / "root.pem")
    config = _config(tmp_path, f'name = "Bank"\nfiles = ["{root}"]\n')
    again = _run("add", "Bank", root, "--config", config)
    assert again.exit_code == 2
    assert "already" in again.output
    assert _run("add", "Other", root, "--config", config).exit_code == 0
    over = _run("add", "other", root, "--config", config)
    assert over.exit_code == 2
    assert "is there already" in over.output
    text = tmp_path / "text"
    text.write_text("no certificate")
    assert _run("add", "Text", text, "--config", config).exit_code == 2


@pytest.mark.skipif(not BUNDLE.exists(), reason="this system keeps its authorities elsewhere")
def test_the_systems_bundle_is_a_set(tmp_path: Path) -> None:
    config = _config(tmp_path, f'name = "Public"\nfiles = ["{BUNDLE}"]\nasserts = ["br"]\n')
    listed = json.loads(_run("list", "--json", "--config", config).output)["anchors"]
    assert len(listed) > 50
    assert _run("check", "--config", config).exit_code in (0, 1)


def _list(root: Path, *, begin: int, days: int | None, by: Path | None = None) -> Path:
    """A list in the root's name, from so many days ago for so many days; perhaps with another key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.load_pem_x509_certificate((by or root).read_bytes()).subject
    start = NOW + timedelta(days=begin)
    builder = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(start)
    path = root.with_suffix(f".{begin}.{days}.crl")
    path.write_bytes(
        builder.next_update(start + timedelta(days=days or 1))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    return path


@pytest.mark.parametrize(
    ("begin", "days", "sentence"),
    [(-1, 30, "was not signed by the authority"), (3, 4, "is still to come"), (-1, 1, "ran out on")],
    ids=["another key", "of the future", "just over"],
)
def test_lists_that_lie(tmp_path: Path, begin: int, days: int, sentence: str) -> None:
    root = _root(tmp_path / "root.pem")
    crl = _list(root, begin=begin, days=days)
    config = _config(tmp_path, f'name = "A"\nfiles = ["{root}"]\ncrls = ["{crl}"]\n')
    checked = _run("check", "--config", config)
    assert checked.exit_code == 1
    assert sentence in checked.output


def test_a_list_of_somebody_else_and_one_that_nobody_asks(tmp_path: Path) -> None:
    root, other = _root(tmp_path / "root.pem"), _root(tmp_path / "other.pem", cn="Below")
    crl = _list(root, begin=-1, days=30, by=other)
    config = _config(tmp_path, f'name = "A"\nfiles = ["{root}"]\ncrls = ["{crl}"]\nrevocation = "off"\n')
    checked = _run("check", "--config", config)
    assert checked.exit_code == 0
    assert "is the list of an authority that is not an anchor of this entry: CN=Below" in checked.output
    assert 'is not looked at, because this entry has revocation = "off"' in checked.output


def test_a_file_that_is_no_list(tmp_path: Path) -> None:
    root = _root(tmp_path / "root.pem")
    config = _config(tmp_path, f'name = "A"\nfiles = ["{root}"]\ncrls = ["{root}"]\n')
    checked = _run("check", "--config", config)
    assert checked.exit_code == 1
    assert "root.pem cannot be read: it is no revocation list" in checked.output


def test_one_root_twice_in_a_set(tmp_path: Path) -> None:
    root = _root(tmp_path / "root.pem")
    root.write_bytes(root.read_bytes() * 2)
    checked = _run("check", "--config", _config(tmp_path, f'name = "A"\nfiles = ["{root}"]\n'))
    assert checked.exit_code == 0
    assert "stands in this entry twice" in checked.output


def test_revocation_that_is_required_and_never_found(tmp_path: Path) -> None:
    root = _root(tmp_path / "root.pem")
    config = _config(tmp_path, f'name = "A"\nfiles = ["{root}"]\nrevocation = "require"\n')
    assert _run("check", "--config", config).exit_code == 0
    config.write_text(config.read_text() + "\n[revocation]\nfetch = false\n")
    checked = _run("check", "--config", config)
    assert checked.exit_code == 1
    assert "nothing is fetched" in checked.output


def test_an_authority_that_says_it_is_none_is_refused(tmp_path: Path) -> None:
    root = _root(tmp_path / "root.pem")
    leaf = tmp_path / "leaf.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Alice")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=9))
    leaf.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    checked = _run("check", "--config", _config(tmp_path, f'name = "A"\nfiles = ["{root}", "{leaf}"]\n'))
    assert checked.exit_code == 2
    assert "leaf.pem: certificate 1 (CN=Alice) is no certification authority" in checked.output
