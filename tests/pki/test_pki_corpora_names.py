"""BoringSSL's name constraints, each set against each name of its kind, in certificates that we sign.

The units have no paths, so these are made: an authority with the constraint, and a sender with the name. What
is trusted has to be trusted by OpenSSL, too; what is refused has to be refused for a reason of this table.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import x509 as asn1_x509

from mailsigil.pki.anchors import AnchorSet, TrustStore
from mailsigil.pki.path import PathStatus, PathValidator
from pki.pki_make import MAIL, NOW, leaf, make, name, root
from pki.pki_raw import Raw, changed, extension
from pki.test_pki_hostile_paths import openssl_verdict

Corpus = Callable[[str], Path]
_BLOCK = re.compile(rb"-----BEGIN ([^-]+)-----(.*?)-----END", re.DOTALL)
_ALTERNATIVE, _CONSTRAINTS = "2.5.29.17", "2.5.29.30"

KINDS = {
    "rfc822name": ("san-rfc822", "-email"),
    "dnsname": ("san-dnsname", "san-excluded-dnsname", "san-permitted", "san-wildcard"),
    "directoryname": ("name-", "san-directory", "san-excluded-directory"),
    "ipaddress": ("san-ip", "san-excluded-ip"),
    "othername": ("san-othername",),
    "uri": ("san-uri",),
    "registeredid": ("san-registeredid",),
    "x400address": ("san-x400",),
    "edipartyname": ("san-edi",),
    "invalid": ("san-dnsname",),
}

# Trusted here and refused by OpenSSL: a constraint, a name, and why.
LOOSER = (
    (
        r"directoryname_and_dnsname",
        r"name-us-arizona-",
        "a common name is no host in mail",
    ),
)
# Refused here and trusted by OpenSSL: in the words of the verdict.
STRICTER = {
    "holds a mail address that is none": "addresses without a host name, with two at signs, or empty",
    "is excluded from what": "local parts are excluded whatever their case, as most hosts take them",
    "excluded from the namespace": "an empty text excludes all, to OpenSSL nobody",
    "lies outside of what": "a host is written without an at sign (RFC 5280 4.2.1.10)",
    "No containment checker": "constraints on IP addresses are not read, so such a name is refused below one",
    "no path leads": "the extension itself breaks its rules: nothing in it, a least distance, half a mask",
}


def _read(folder: Path) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("*.pem")):
        match = _BLOCK.search(path.read_bytes())
        assert match
        found.setdefault(match[1].decode(), {})[path.stem] = base64.b64decode(match[2])
    return found


def _with_extension(oid: str, der: bytes, *, critical: bool) -> Callable[[Any], None]:
    def change(tbs: Any) -> None:
        kept = [one for one in tbs["extensions"] if one["extn_id"].dotted != oid]
        tbs["extensions"] = [*kept, extension(oid, der, critical=critical)]

    return change


def _with_subject(der: bytes) -> Callable[[Any], None]:
    def change(tbs: Any) -> None:
        tbs["subject"] = asn1_x509.Name.load(der)

    return change


@pytest.mark.integration  # five hundred calls of OpenSSL
def test_each_constraint_with_each_name(corpus: Corpus, tmp_path: Path) -> None:
    blocks = _read(next(corpus("boringssl-pki").rglob("name_constraints_unittest")))
    top = root()
    authority = make(name(cn="Sub"), top, ca=True)
    plain, bare = leaf(authority), make(name(cn="x"), authority, MAIL)
    senders: dict[str, Raw] = {
        title: changed(plain, authority, _with_extension(_ALTERNATIVE, der, critical=False))
        for title, der in blocks["SUBJECT ALTERNATIVE NAME"].items()
    }
    senders |= {title: changed(bare, authority, _with_subject(der)) for title, der in blocks["NAME"].items()}
    validator = PathValidator(TrustStore((AnchorSet(name="x", certificates=(top.certificate,)),)))
    looser, stricter, seen, trusted = [], [], set(), 0
    for title, der in blocks["NAME CONSTRAINTS"].items():
        held = changed(authority, top, _with_extension(_CONSTRAINTS, der, critical=True))
        kind = next(kind for kind in KINDS if title.startswith(kind))
        for other, sender in senders.items():
            if not any(part in other for part in KINDS[kind]):
                continue
            verdict = validator.validate(sender.der, [held.der], at=NOW)
            ours = verdict.status is PathStatus.TRUSTED
            trusted += ours
            theirs, _ = openssl_verdict(tmp_path, sender, (held,), (top,), at=NOW)
            if ours and not theirs:
                known = any(re.match(one, title) and re.match(two, other) for one, two, _ in LOOSER)
                looser += [] if known else [(title, other)]
            elif theirs and not ours:
                reason = next((words for words in STRICTER if words in verdict.reason), "")
                stricter += [] if reason else [(title, other, verdict.reason)]
                seen.add(reason)
    assert looser == []
    assert stricter == []
    assert seen == set(STRICTER)
    assert trusted > 100
