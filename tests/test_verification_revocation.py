"""What revocation does to a verdict, by the mode of the anchors."""

from __future__ import annotations

from datetime import datetime

import pytest

from bank import bank, judge, mail, signed, stranger, verification
from mailsigil.pki.anchors import RevocationMode
from mailsigil.pki.evidence import RevocationStatus
from mailsigil.pki.revocation import Carried, RevocationVerdict
from mailsigil.verdict import Reason, SmimeWord, Status

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
