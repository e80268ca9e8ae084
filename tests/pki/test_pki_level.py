from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from mailsigil.pki.anchors import AnchorSet
from mailsigil.pki.level import asserted_levels, claimed_level, fit_level, identity_level, identity_text
from mailsigil.pki.names import UNREADABLE, CertificateNames
from mailsigil.pki.policies import BR_POLICIES, MAILSIGIL_POLICIES, Generation, Level
from pki.pki_make import leaf, name, policies, root

ROOT = root()
ALL = frozenset(BR_POLICIES) | frozenset(MAILSIGIL_POLICIES)
FULL = {"gn": "Alice", "sn": "Example", "o": "Example Bank"}
V1, V2, V3, V4 = (next(o for o, v in MAILSIGIL_POLICIES.items() if v is level) for level in Level)
PUBLIC = AnchorSet(name="public", certificates=(), asserts=frozenset({"br"}))
OWN = AnchorSet(name="own", certificates=(), asserts=frozenset({"mailsigil"}))


def certificate(*oids: str, **subject: str) -> x509.Certificate:
    extensions = [policies(*oids)] if oids else []
    return leaf(ROOT, *extensions, subject=name(**subject)).certificate


def test_the_arcs_are_not_in_the_order_of_the_levels() -> None:
    got = {oid.removeprefix("2.23.140.1.5."): level for oid, (level, _) in BR_POLICIES.items()}
    assert [got[f"{n}.1"] for n in (1, 2, 3, 4)] == [Level.V1, Level.V3, Level.V4, Level.V2]
    assert len(BR_POLICIES) == 12


@pytest.mark.parametrize(
    ("anchors", "oids", "subject", "level", "reason"),
    [
        pytest.param(PUBLIC, ["2.23.140.1.5.3.3"], FULL, Level.V4, "", id="public sponsor"),
        pytest.param(OWN, [V4], FULL, Level.V4, "", id="own V4"),
        pytest.param(OWN, ["2.23.140.1.5.3.3"], FULL, Level.V1, "no policy", id="private asserts BR"),
        pytest.param(PUBLIC, [V4], FULL, Level.V1, "no policy", id="public asserts ours"),
        pytest.param(OWN, [V2, V4], FULL, Level.V2, "contradicting", id="contradiction: the lower"),
        pytest.param(OWN, [V4], {"o": "Example Bank"}, Level.V3, "no person", id="V4 without person"),
        pytest.param(OWN, [V4], {"gn": "A", "sn": "B"}, Level.V2, "no organisation", id="V4 without org"),
        pytest.param(OWN, [V3], {"gn": "A", "sn": "B"}, Level.V1, "no organisation", id="V3 never gives V2"),
        pytest.param(OWN, [V2], {"cn": "a@b.example"}, Level.V1, "no person", id="V2 without person"),
        pytest.param(OWN, [], FULL, Level.V1, "no policy", id="nothing asserted"),
        pytest.param(OWN, ["1.2.3"], FULL, Level.V1, "no policy", id="unknown policy"),
    ],
)
def test_identity_level(
    anchors: AnchorSet, oids: list[str], subject: dict[str, str], level: Level, reason: str
) -> None:
    decision = identity_level(certificate(*oids, **subject), anchors, policies=ALL | {"1.2.3"})
    assert decision.level is level
    assert reason in decision.reason
    assert bool(decision.reason) == bool(reason)


def test_a_policy_that_the_path_does_not_allow_does_not_count() -> None:
    decision = identity_level(certificate(V4, **FULL), OWN, policies=frozenset({V1}))
    assert decision.level is Level.V1


def test_fixed_level_and_own_identifiers() -> None:
    fixed = AnchorSet(name="p", certificates=(), level=Level.V3)
    assert identity_level(certificate(**FULL), fixed, policies=frozenset()).level is Level.V3
    mapped = AnchorSet(name="p", certificates=(), oids={"1.2.3": Level.V4})
    assert (
        identity_level(certificate("1.2.3", **FULL), mapped, policies=frozenset({"1.2.3"})).level is Level.V4
    )


@pytest.mark.parametrize(
    ("level", "title", "text"),
    [
        (Level.V1, "", "V1 Email Validated, Identity Not Validated"),
        (Level.V2, "T", "V2 Alice Example, Identity Validated"),
        (Level.V3, "", "V3 Example Bank, Identity Validated and Trusted"),
        (Level.V4, "Manager", "V4 Alice Example, Example Bank, Manager, Identity Validated and Trusted"),
        (Level.V4, "", "V4 Alice Example, Example Bank, Identity Validated and Trusted"),
    ],
)
def test_identity_text(level: Level, title: str, text: str) -> None:
    names = CertificateNames(full_name="Alice Example", organisation="Example Bank", title=title)
    assert identity_text(level, names) == text


def test_corpus_covers_all_levels_and_generations(corpus) -> None:  # type: ignore[no-untyped-def]
    """Each published S/MIME certificate claims what its policies stand for, and names never raise that."""
    folder: Path = corpus("zlint-smime")
    seen = set()
    for path in sorted(folder.rglob("*.pem")):
        data = path.read_bytes()
        cert = x509.load_pem_x509_certificate(data[data.find(b"-----BEGIN CERTIFICATE-----") :])
        try:
            _ = cert.extensions
        except UNREADABLE:
            continue  # cannot be read, so it can never be trusted
        assertions = asserted_levels(cert)
        claimed, fitting = claimed_level(assertions), fit_level(assertions, cert)
        assert fitting.level <= claimed.level
        assert fitting.reason or fitting == claimed
        if len(assertions) == 1:
            assert (claimed.level, claimed.generation) == (assertions[0].level, assertions[0].generation)
            seen.add((claimed.level, claimed.generation))
    assert seen == {(level, generation) for level in Level for generation in Generation}
