"""The search for private keys finds them, however they are written: what it does not find is not there."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from envelopes import make_key
from servers.leaks import PrivateKey, Secrets


def _written(key: PrivateKey) -> dict[str, bytes]:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    old = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    numbers = key.private_numbers()
    secret = numbers.d if isinstance(numbers, rsa.RSAPrivateNumbers) else numbers.private_value
    return {
        "pem": pem,
        "older-pem": old,
        "der": der,
        "hex": der.hex().encode(),
        "json": json.dumps({"private_key": pem.decode()}).encode(),
        "a-field-of-2.3": base64.b64encode(pem),
        "a-field-of-2.4": b"inline:" + pem.replace(b"\n", b"\\n"),
        "moved-by-one": base64.encodebytes(b"x" + der),
        "moved-by-two": base64.encodebytes(b"xy" + pem),
        "cut-off": pem[: len(pem) * 3 // 4],
        "a-number": f"{secret:x}".zfill(64).upper().encode(),
    }


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384", "p521"])
def test_each_writing_is_found_and_nothing_else(kind: str, tmp_path: Path) -> None:
    secrets = Secrets()
    secrets.add("bob", make_key(kind))
    for name, content in _written(make_key(kind)).items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "log").write_bytes(b"before " + content + b" behind")
        assert secrets.found(folder) == [f"bob in {folder}/log"], name
        assert secrets.found(folder, but=[folder / "log"]) == []
    public = tmp_path / "public"
    public.mkdir()
    for name, content in _written(make_key(f"{kind}#another")).items():
        (public / name).write_bytes(content)
    # His own public key is no secret, in whatever form.
    own = make_key(kind).public_key()
    for name, encoding in (("pem", Encoding.PEM), ("der", Encoding.DER)):
        content = own.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        (public / f"own-{name}").write_bytes(content + base64.b64encode(content))
    assert secrets.found(public) == []
