from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailsigil.pki.anchors import AnchorError, AnchorSet, domains_allow, load_anchor_file
from mailsigil.pki.policies import Level
from pki.pki_make import leaf, make, name, root, usage

ROOT = root()


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("content", "count"),
    [
        pytest.param(pem(ROOT.certificate), 1, id="PEM"),
        pytest.param(pem(ROOT.certificate) + pem(root().certificate), 2, id="several in PEM"),
        pytest.param(ROOT.der, 1, id="DER"),
    ],
)
def test_load(tmp_path: Path, content: bytes, count: int) -> None:
    path = tmp_path / "anchors"
    path.write_bytes(content)
    assert len(load_anchor_file(path)) == count


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(None, "cannot be read: No such file", id="absent"),
        pytest.param(b"hello", "no readable certificate", id="no certificate"),
        pytest.param(b"", "no readable certificate", id="empty"),
        pytest.param(pem(leaf(ROOT).certificate), "is no certification authority", id="leaf"),
        pytest.param(
            make(name(cn="x"), None, x509.BasicConstraints(ca=True, path_length=None), usage("crl_sign")).der,
            "may not sign certificates",
            id="authority that may not sign",
        ),
        pytest.param(
            make(
                name(cn="x"),
                None,
                x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
                ca=True,
                critical=(x509.UnrecognizedExtension,),
            ).der,
            "critical extension 1.2.3.4",
            id="unknown critical extension",
        ),
        pytest.param(make(x509.Name([]), None, ca=True).der, "has no name", id="no name"),
    ],
)
def test_load_errors_tell_file_and_mend(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "anchors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AnchorError, match=sentence) as caught:
        load_anchor_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("domains", "address", "allowed"),
    [
        ((), "a@anything.example", True),
        (("bank.example",), "a@bank.example", True),
        (("bank.example",), "a@BANK.example", True),
        (("bank.example",), "a@mail.bank.example", False),
        (("bank.example",), "a@evilbank.example", False),
        (("*.bank.example",), "a@mail.bank.example", True),
        (("*.bank.example",), "a@a.b.bank.example", True),
        (("*.bank.example",), "a@bank.example", False),
        (("*.bank.example",), "a@evil-bank.example", False),
        (("bank.example",), "no address", False),
        (("bank.example",), "bank.example@", False),
    ],
)
def test_domains(domains: tuple[str, ...], address: str, allowed: bool) -> None:
    anchors = AnchorSet(name="partner", certificates=(), domains=frozenset(domains))
    assert domains_allow(anchors, address) is allowed


def test_impossible_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot assert"):
        AnchorSet(name="x", certificates=(), asserts=frozenset({"everything"}))
    with pytest.raises(ValueError, match="either a fixed level"):
        AnchorSet(name="x", certificates=(), asserts=frozenset({"br"}), level=Level.V4)
