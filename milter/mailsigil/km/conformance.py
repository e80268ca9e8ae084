"""The operations, one after the other, each with its verdict."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from mailsigil.cms.algorithms import Scheme, verify_with
from mailsigil.config.settings import Settings
from mailsigil.config.sources import EnrolmentSettings, SourceSettings
from mailsigil.keys.answers import Question, checked_chain
from mailsigil.keys.enrolment import EnrolledKeys
from mailsigil.keys.errors import Pending, SourceError
from mailsigil.keys.guard import Breaker, Guard
from mailsigil.keys.source import SigningKey
from mailsigil.keys.sources.build import Issuing, build_issuing, build_source
from mailsigil.keys.sources.est import EstAuthority
from mailsigil.km.report import Line, Outcome, Report
from mailsigil.km.trial import TrialFailed, trial
from mailsigil.pki.anchors import TrustStore
from mailsigil.pki.level import asserted_levels, claimed_level
from mailsigil.verdict import Reason, Status

TEST_MAILBOX: Final = "mailsigil-test"
SHORT_LIFE: Final = timedelta(days=7)
_LOOK: Final = "Look at that service's log, or at a proxy between"
_TRIAL: Final = b"mailsigil km test"
_UNTRUSTED: Final = frozenset({Reason.NO_PATH, Reason.DOMAIN})

_T = TypeVar("_T")


class _Failed(Exception):
    """An operation that did not pass; texts end without a full stop."""

    def __init__(self, sentence: str, mend: str) -> None:
        super().__init__(sentence)
        self.mend = mend


class Conformance:
    """The test of one source. ``now`` gives the time, aware, in UTC.

    ``patience`` is how many seconds a request that is not decided yet is asked after.
    """

    def __init__(
        self,
        source: SourceSettings,
        address: str,
        *,
        settings: Settings,
        trust: TrustStore,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        patience: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._source = source
        self._patience = patience
        self._sleep = sleep
        self._address = address
        self._settings = settings
        self._trust = trust
        self._now = now
        self._clock = clock
        self._lines: list[Line] = []
        # Each operation is to have its own try, however many failed before it.
        breaker = Breaker(failures=1_000_000, pause=0.0)
        self._guard = Guard(source.name, timeout=source.timeout, breaker=breaker)

    def run(self) -> Report:
        """Runs everything; what is certified on the way is revoked again, where that can be."""
        if self._source.issues:
            self._issuing(build_issuing(self._source, now=self._now))
        else:
            self._holding()
        return Report(
            source=self._source.name,
            kind=self._source.kind,
            address=self._address,
            lines=tuple(self._lines),
        )

    def _issuing(self, issuing: Issuing) -> None:
        """An authority: reach, enrol, the certificate, sign, verify, re-enrol, revoke."""
        if isinstance(issuing.issuer, EstAuthority):
            est = issuing.issuer
            self._try("cacerts", lambda: f"{len(self._timed(est.cacerts))} certificates of the authority")
            self._try("csrattrs", lambda: str(self._timed(est.wishes)))
        with tempfile.TemporaryDirectory(prefix="mailsigil-km-") as folder:
            state = Path(folder) / "state"
            key = self._try_for("enrol", lambda: self._enrolled(state))
            if key is None:
                why = "nothing was enrolled"
                if self._lines[-1].outcome is Outcome.PENDING:
                    why = "the request is not decided yet"
                self._skip(("certificate", "sign", "verify", "re-enrol", "revoke"), why)
                return
            self._use(key, asked=True)
            if self._source.token is not None or self._source.transit is not None:
                where = "on the token" if self._source.token is not None else "in transit"
                self._note("enrol", f"the keys of this test stay {where}", "Remove them there when you like")
            successor = self._try_for("re-enrol", lambda: self._renewed(state, key))
        first = key.credential.certificate
        self._revoke(issuing, [first] if successor is None else [first, successor.credential.certificate])

    def _holding(self) -> None:
        """A place that holds keys: find, the certificate, sign, verify; for each key of the address."""
        keys = self._try_for("find", self._found)
        if not keys:
            self._skip(("certificate", "sign", "verify"), "there is no key to try")
            return
        for key in keys:
            self._use(key, asked=False)

    def _found(self) -> tuple[SigningKey, ...]:
        source = build_source(self._source, now=self._now).source
        source.reload()
        keys = source.find(self._address)
        if not keys:
            raise _Failed(
                f"it holds no key whose certificate names {self._address}",
                "Put a test key there, or name an address that has one with --address",
            )
        return keys

    def _enrolled(self, state: Path) -> SigningKey:
        """As the key agent does it: with its time limit, into a state folder, read back from there."""
        keys = self._patiently(lambda: self._enrolling(state).find(self._address))
        if not keys:
            raise _Failed("what was enrolled is not valid now", "Compare the clocks of both sides")
        return keys[0]

    def _renewed(self, state: Path, first: SigningKey) -> SigningKey:
        keys = self._patiently(lambda: self._enrolling(state).renew(self._address))
        if not keys or keys[0].credential.certificate == first.credential.certificate:
            raise _Failed("re-enrolment gave the old certificate again", "Have it issue one for the new key")
        return keys[0]

    def _enrolling(self, state: Path) -> EnrolledKeys:
        """The source with another state folder; built anew each time, as after a restart."""
        enrolment = self._enrolment.model_copy(update={"state": str(state), "on_demand": True})
        built = build_source(self._source.model_copy(update={"enrolment": enrolment}), now=self._now).source
        if not isinstance(built, EnrolledKeys):
            raise TypeError("a source that certifies keys enrols them")
        return built

    def _patiently(self, action: Callable[[], _T]) -> _T:
        """Asks again after what is not decided yet, for as long as the test is to wait."""
        left = self._patience
        while True:
            try:
                return action()
            except Pending as pending:
                if left <= 0:
                    raise
                pause = min(pending.retry_after, left)
                self._sleep(pause)
                left -= pause

    def _use(self, key: SigningKey, *, asked: bool) -> None:
        """What a key must be good for."""
        credential = key.credential
        chain = (credential.certificate, *credential.intermediates)
        if self._try("certificate", lambda: self._described(chain)):
            self._remark(chain, asked=asked)
        if self._try("sign", lambda: self._signed(key)):
            self._verify(key)
        else:
            self._skip(("verify",), "there is no signature to verify")

    def _described(self, chain: tuple[bytes, ...]) -> str:
        self._check(chain)
        own = x509.load_der_x509_certificate(chain[0])
        level = claimed_level(asserted_levels(own)).level
        issuers = f"{len(chain) - 1} intermediate" + ("" if len(chain) == 2 else "s")
        return f"serial {own.serial_number:x}, {level}, until {own.not_valid_after_utc:%Y-%m-%d}, {issuers}"

    def _check(self, chain: tuple[bytes, ...]) -> None:
        question = Question(source=self._source.name, address=self._address, now=self._now())
        checked_chain(question, [x509.load_der_x509_certificate(each) for each in chain])

    def _remark(self, chain: tuple[bytes, ...], *, asked: bool) -> None:
        """What works, and is worth knowing."""
        own = x509.load_der_x509_certificate(chain[0])
        left = own.not_valid_after_utc - self._now()
        if left < SHORT_LIFE:
            self._note(
                "certificate",
                f"it lasts {left.total_seconds() / 3600:.0f} hours more",
                "See that this is meant",
            )
        if asked and (level := claimed_level(asserted_levels(own)).level) != self._enrolment.level:
            self._note(
                "certificate",
                f"its policies say {level}, and {self._enrolment.level} was asked for",
                "Choose the authority's policy or role, or name its policies in oids of [[trust]]",
            )
        pointers = {x509.CRLDistributionPoints.oid, x509.AuthorityInformationAccess.oid}
        if pointers.isdisjoint(extension.oid for extension in own.extensions):
            self._note(
                "certificate",
                "it does not say where revocation is looked up",
                "Have the authority put CRL or OCSP addresses into its certificates",
            )

    def _signed(self, key: SigningKey) -> str:
        certificate = x509.load_der_x509_certificate(key.credential.certificate)
        for scheme in (schemes := key.credential.schemes):
            try:
                verify_with(certificate.public_key(), Scheme(scheme), key.sign(scheme, _TRIAL), _TRIAL)
            except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
                raise _Failed(f"the signature with {scheme} does not verify", _LOOK) from error
        return f"{len(schemes)} kinds of signature, first {schemes[0]}"

    def _verify(self, key: SigningKey) -> None:
        start = self._clock()
        try:
            verdict = trial(key, self._address, settings=self._settings, trust=self._trust, now=self._now)
        except TrialFailed as failure:
            self._add("verify", Outcome.FAILED, f"a trial mail was not signed: {failure}", start, mend=_LOOK)
            return
        if verdict.status is Status.TRUSTED and verdict.identity is not None:
            shown = f"a trial mail is {verdict.identity.level} of {verdict.identity.address}"
            self._add("verify", Outcome.PASSED, shown, start)
        elif verdict.reason in _UNTRUSTED:
            self._add("verify", Outcome.PASSED, "the signature of a trial mail holds", start)
            self._note(
                "verify",
                "no authority of [[trust]] vouches for it, so your own readers see no identity",
                "Add its root: mailsigil trust add",
            )
        else:
            why = verdict.detail or verdict.reason.sentence.rstrip(".")
            mend = "Have the certificate issued as S/MIME asks for (RFC 8550)"
            self._add(
                "verify", Outcome.FAILED, f"a trial mail is {verdict.status.value}: {why}", start, mend=mend
            )

    def _revoke(self, issuing: Issuing, certificates: list[bytes]) -> None:
        if isinstance(issuing.issuer, EstAuthority):
            detail = "EST knows no revocation; the test's certificates stay valid"
            self._add("revoke", Outcome.NOT_OFFERED, detail, self._clock())
            return

        def revoke() -> str:
            for certificate in certificates:
                self._timed(partial(issuing.issuer.revoke, certificate))
            return f"{len(certificates)} certificates of this test"

        self._try("revoke", revoke)

    @property
    def _enrolment(self) -> EnrolmentSettings:
        return self._source.enrolment or EnrolmentSettings()

    def _timed(self, action: Callable[[], _T]) -> _T:
        return self._guard.call(action)

    def _try(self, operation: str, action: Callable[[], str]) -> bool:
        return self._try_for(operation, action) is not None

    def _try_for(self, operation: str, action: Callable[[], _T]) -> _T | None:
        start = self._clock()
        try:
            result = action()
        except Pending as pending:
            mend = "Approve the request there while the test waits for it: --wait SECONDS"
            self._add(operation, Outcome.PENDING, pending.sentence, start, mend=mend)
        except SourceError as error:
            self._add(operation, Outcome.FAILED, error.sentence, start, mend=error.mend)
        except _Failed as failure:
            self._add(operation, Outcome.FAILED, str(failure), start, mend=failure.mend)
        else:
            self._add(operation, Outcome.PASSED, result if isinstance(result, str) else "done", start)
            return result
        return None

    def _add(self, operation: str, outcome: Outcome, detail: str, start: float, *, mend: str = "") -> None:
        seconds = max(0.0, self._clock() - start)
        self._lines.append(
            Line(operation=operation, outcome=outcome, detail=detail, mend=mend, seconds=seconds)
        )

    def _note(self, operation: str, detail: str, mend: str) -> None:
        self._lines.append(Line(operation=operation, outcome=Outcome.NOTE, detail=detail, mend=mend))

    def _skip(self, operations: tuple[str, ...], why: str) -> None:
        for operation in operations:
            self._lines.append(Line(operation=operation, outcome=Outcome.SKIPPED, detail=why))
