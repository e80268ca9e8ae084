"""A token of SoftHSM2 for tests: keys are made on it and stay there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from mailsigil.demo.programs import require, run
from mailsigil.keys.sources.pkcs11_library import library_of

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
LABEL = "mail"
PIN = "4711"


class SoftHsm:
    """One token in a folder. Processes find it by the environment variable in ``env``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._util = require("softhsm2-util", package="softhsm2")
        self._tool = require("pkcs11-tool", package="opensc")
        (folder / "tokens").mkdir(parents=True)
        conf = folder / "softhsm2.conf"
        conf.write_text(
            f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        self.env: Mapping[str, str] = {"SOFTHSM2_CONF": str(conf)}
        self.pin_file = folder / "pin"
        self.pin_file.write_text(f"{PIN}\n")
        self.pin_file.chmod(0o600)
        os.environ.update(self.env)
        # A library that was loaded for the token of another test reads the environment anew.
        library = library_of(MODULE)
        with library.turn():
            library.distrust()
        arguments = ["--init-token", "--free", "--label", LABEL, "--so-pin", "12345678", "--pin", PIN]
        run([self._util, *arguments])

    def make_key(self, kind: str, number: int) -> PublicKeyTypes:
        """Makes a key pair on the token ("rsa:2048", "EC:prime256v1") and gives its public half."""
        identifier = f"{number:04x}"
        self.run("--keypairgen", "--key-type", kind, "--id", identifier, "--label", f"key {number}")
        return self.read_public_key(identifier)

    def read_public_key(self, identifier: str) -> PublicKeyTypes:
        """Gives the public half of a key on the token."""
        path = self.folder / f"{identifier}.pub"
        self.run("--read-object", "--type", "pubkey", "--id", identifier, "--output-file", path)
        return load_der_public_key(path.read_bytes())

    def put_certificate(self, certificate: x509.Certificate, number: int) -> None:
        """Puts a certificate beside its key."""
        path = self.folder / f"{number:04x}.der"
        path.write_bytes(certificate.public_bytes(Encoding.DER))
        self.run(
            "--write-object", path, "--type", "cert", "--id", f"{number:04x}", "--label", f"key {number}"
        )

    def remove(self) -> None:
        """Pulls the token out."""
        (self.folder / "tokens").rename(self.folder / "pulled")
        (self.folder / "tokens").mkdir()

    def put_back(self) -> None:
        """Plugs it in again."""
        (self.folder / "tokens").rmdir()
        (self.folder / "pulled").rename(self.folder / "tokens")

    def run(self, *arguments: str | Path) -> str:
        """Has OpenSC's tool look at the token, or change it; gives what it says."""
        token = ["--module", MODULE, "--token-label", LABEL, "--login", "--pin", PIN]
        return run([self._tool, *token, *arguments]).decode()
