"""What revocation does to a verdict, by the mode of the anchors."""

from __future__ import annotations

from datetime import datetime

import pytest
from asn1crypto import cms
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bank import bank, judge, mail, signed, stranger, verification
from mailsigil.pki.anchors import AnchorSet, RevocationMode, TrustStore
from mailsigil.pki.evidence import RevocationStatus
from mailsigil.pki.policies import Level
from mailsigil.pki.revocation import Carried, RevocationVerdict
from mailsigil.verdict import Reason, SmimeWord, Status
from tampering import with_signature

OFF, PREFER, REQUIRE = RevocationMode.OFF, RevocationMode.PREFER, RevocationMode.REQUIRE
GOOD, REVOKED = RevocationStatus.GOOD, RevocationStatus.REVOKED
UNKNOWN, UNPUBLISHED = RevocationStatus.UNKNOWN, RevocationStatus.UNPUBLISHED


class Says:
    """Says one thing about every path, and remembers which it was asked about."""

    def __init__(self, status: RevocationStatus) -> None:
        self.status_ = status
        self.asked: list[tuple[bytes, ...]] = []

    def status(
        self, chain: tuple[bytes, ...], *, carried: Carried, at: datetime, waited: float = 0.0
    ) -> RevocationVerdict:
        self.asked.append(chain)
        return RevocationVerdict(self.status_, "because" if self.status_ is not GOOD else "")


@pytest.mark.parametrize(
    ("mode", "status", "word", "told", "reason"),
    [
        (REQUIRE, GOOD, SmimeWord.PASS, Status.TRUSTED, Reason.NONE),
        (REQUIRE, REVOKED, SmimeWord.FAIL, Status.INVALID, Reason.REVOKED),
        (REQUIRE, UNKNOWN, SmimeWord.TEMPERROR, Status.UNCHECKED, Reason.REVOCATION_UNKNOWN),
        (REQUIRE, UNPUBLISHED, SmimeWord.POLICY, Status.UNCHECKED, Reason.REVOCATION_UNKNOWN),
        (PREFER, GOOD, SmimeWord.PASS, Status.TRUSTED, Reason.NONE),
        (PREFER, REVOKED, SmimeWord.FAIL, Status.INVALID, Reason.REVOKED),
        (PREFER, UNKNOWN, SmimeWord.PASS, Status.TRUSTED, Reason.NONE),
        (PREFER, UNPUBLISHED, SmimeWord.PASS, Status.TRUSTED, Reason.NONE),
        (OFF, REVOKED, SmimeWord.PASS, Status.TRUSTED, Reason.NONE),
        (OFF, UNKNOWN, SmimeWord.PASS, Status.TRUSTED, Reason.NONE),
    ],
    ids=lambda value: getattr(value, "name", None),
)
@pytest.mark.parametrize("with_identity", [True, False], ids=["identity", "path alone"])
def test_modes(
    mode: RevocationMode,
    status: RevocationStatus,
    word: SmimeWord,
    told: Status,
    reason: Reason,
    with_identity: bool,
) -> None:
    says = Says(status)
    parts = verification(bank().trust(revocation=mode), revocation=says)
    verdict = judge(signed(mail()), parts=parts, with_identity=with_identity)
    assert (verdict.word, verdict.status, verdict.reason) == (word, told, reason)
    assert (verdict.identity is not None) is (with_identity and word is SmimeWord.PASS)
    assert ("because" in verdict.detail) is (mode is not OFF and status is not GOOD)
    assert bool(says.asked) is (mode is not OFF)


def test_nobody_is_asked_about_a_path_that_ends_nowhere() -> None:
    says = Says(GOOD)
    verdict = judge(signed(mail(), by=stranger()), parts=verification(revocation=says))
    assert verdict.reason is Reason.NO_PATH
    assert says.asked == []


def test_the_question_is_about_the_whole_path() -> None:
    says = Says(GOOD)
    judge(signed(mail()), parts=verification(revocation=says))
    ((leaf, *others),) = says.asked
    assert len(others) == 2
    assert leaf != others[0] != others[1]


class FirstRevoked:
    """Says of the first path that it is asked about that this certificate of it was revoked."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.anchors: list[bytes] = []

    def status(
        self, chain: tuple[bytes, ...], *, carried: Carried, at: datetime, waited: float = 0.0
    ) -> RevocationVerdict:
        self.anchors.append(chain[-1])
        if len(self.anchors) > 1:
            return RevocationVerdict(GOOD)
        return RevocationVerdict(REVOKED, "because", chain[self.position])


def _crossed() -> tuple[bytes, x509.Certificate]:
    """A mail with a cross-certificate of the bank's issuing authority, and the other root that gave it."""
    issuing, key = bank().issuing, ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Other Root")])
    basic = x509.BasicConstraints(ca=True, path_length=None)
    made = []
    for subject, public in ((name, key.public_key()), (issuing.subject, issuing.public_key())):
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(name).public_key(public)
        builder = builder.serial_number(7).not_valid_before(issuing.not_valid_before_utc)
        builder = builder.not_valid_after(issuing.not_valid_after_utc).add_extension(basic, critical=True)
        made.append(builder.sign(key, hashes.SHA256()))

    def add(info: cms.ContentInfo) -> None:
        cross = asn1_x509.Certificate.load(made[1].public_bytes(Encoding.DER))
        certificates = info["content"]["certificates"]
        info["content"]["certificates"] = [*certificates, cms.CertificateChoices("certificate", cross)]

    return with_signature(signed(mail()), add), made[0]


def test_an_authority_revoked_on_one_path_leaves_the_other() -> None:
    raw, other = _crossed()
    levels = {bank().root: Level.V4, other: Level.V1}
    sets = tuple(
        AnchorSet(name=level.value, certificates=(anchor,), level=level) for anchor, level in levels.items()
    )
    says = FirstRevoked(1)
    verdict = judge(raw, parts=verification(TrustStore(sets), revocation=says))
    assert verdict.reason is Reason.NONE
    # What is shown is what the path that counts may assert, and not the one that was looked at first.
    assert len(set(says.anchors)) == len(says.anchors) == 2
    assert verdict.identity is not None
    assert verdict.identity.level is levels[x509.load_der_x509_certificate(says.anchors[1])]
    alone = judge(raw, parts=verification(TrustStore(sets[:1]), revocation=FirstRevoked(1)))
    assert alone.reason is Reason.REVOKED


def test_a_sender_who_is_revoked_has_no_other_path() -> None:
    raw, other = _crossed()
    anchors = AnchorSet(name="both", certificates=(bank().root, other))
    says = FirstRevoked(0)
    verdict = judge(raw, parts=verification(TrustStore((anchors,)), revocation=says))
    assert (verdict.reason, verdict.identity, len(says.anchors)) == (Reason.REVOKED, None, 1)
