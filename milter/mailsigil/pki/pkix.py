"""The algorithm of RFC 5280 6.1 on one chain, by pyhanko-certvalidator.

The library's own path search, fetching and revocation stay unused: chains come in complete, so that its
coroutines never wait and are run to their end without an event loop.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko_certvalidator import errors
from pyhanko_certvalidator.authority import CertTrustAnchor, TrustQualifiers
from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.name_trees import (
    default_excluded_subtrees,
    default_permitted_subtrees,
    process_general_subtrees,
)
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.policy_decl import (
    NO_REVOCATION,
    CertRevTrustPolicy,
    DisallowWeakAlgorithmsPolicy,
    PKIXValidationParams,
)
from pyhanko_certvalidator.registry import CertificateRegistry, SimpleTrustManager
from pyhanko_certvalidator.validate import async_validate_path

from mailsigil.pki.chains import Chain

_POLICY_NODES: Final = 200
_NO_REVOCATION: Final = CertRevTrustPolicy(NO_REVOCATION)
_ALGORITHMS: Final = DisallowWeakAlgorithmsPolicy()  # type: ignore[no-untyped-call]


class Fault(Enum):
    """What is wrong with a chain."""

    SIGNATURE = "signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    ALGORITHM = "algorithm"
    CONSTRAINT = "constraint"
    UNREADABLE = "unreadable"


class ChainInvalid(Exception):
    """A chain does not hold."""

    def __init__(self, fault: Fault, sentence: str) -> None:
        super().__init__(sentence)
        self.fault = fault
        self.sentence = sentence


def validate_chain(chain: Chain, at: datetime) -> frozenset[str]:
    """Validate one chain at a time; gives the policies that the whole path allows.

    Raises ``ChainInvalid``.
    """
    try:
        anchor = chain.anchor.parsed.asn1
        path = ValidationPath(
            trust_anchor=CertTrustAnchor(anchor, _qualifiers(anchor, len(chain.intermediates) + 1)),
            interm=[parsed.asn1 for parsed in reversed(chain.intermediates)],
            leaf=chain.leaf.asn1,
        )
        _run(async_validate_path(_context(at), path))
        return _policies(path)
    except ChainInvalid:
        raise
    except errors.ExpiredError as error:
        raise ChainInvalid(Fault.EXPIRED, error.failure_msg) from error
    except errors.NotYetValidError as error:
        raise ChainInvalid(Fault.NOT_YET_VALID, error.failure_msg) from error
    except errors.DisallowedAlgorithmError as error:
        raise ChainInvalid(Fault.ALGORITHM, error.failure_msg) from error
    except errors.ValidationError as error:
        # The library has no class of its own for a signature that does not hold.
        forged = isinstance(error.__context__, InvalidSignature)
        raise ChainInvalid(Fault.SIGNATURE if forged else Fault.CONSTRAINT, error.failure_msg) from error
    except NotImplementedError as error:
        # A constraint on a kind of name that cannot be checked: RFC 5280 4.2.1.10 asks to reject.
        raise ChainInvalid(Fault.CONSTRAINT, f"a constraint cannot be checked: {error}"[:300]) from error
    except Exception as error:
        # The library works on hostile octets and raises whatever comes up inside; none of it is trust.
        raise ChainInvalid(Fault.UNREADABLE, f"the path cannot be read: {error}"[:300]) from error


def _context(at: datetime) -> ValidationContext:
    return ValidationContext(
        trust_manager=SimpleTrustManager.build(trust_roots=[]),
        certificate_registry=CertificateRegistry(),
        moment=at,
        allow_fetching=False,
        revinfo_policy=_NO_REVOCATION,
        algorithm_usage_policy=_ALGORITHMS,
        time_tolerance=timedelta(0),
    )


def _qualifiers(anchor: asn1_x509.Certificate, length: int) -> TrustQualifiers:
    """Hold an anchor to what its own certificate says (RFC 5937), on a path of ``length`` certificates."""
    # Kinds of names that the anchor says nothing about stay free.
    permitted, excluded = default_permitted_subtrees(), default_excluded_subtrees()
    constraints = anchor.name_constraints_value
    if constraints is not None:
        if isinstance(constraints["permitted_subtrees"], asn1_x509.GeneralSubtrees):
            permitted.update(process_general_subtrees(constraints["permitted_subtrees"]))
        if isinstance(constraints["excluded_subtrees"], asn1_x509.GeneralSubtrees):
            excluded.update(process_general_subtrees(constraints["excluded_subtrees"]))
    limits = anchor.policy_constraints_value
    explicit = limits["require_explicit_policy"].native if limits else None
    mapping = limits["inhibit_policy_mapping"].native if limits else None
    inhibit = anchor.inhibit_any_policy_value
    return TrustQualifiers(
        standard_parameters=PKIXValidationParams(
            user_initial_policy_set=_anchor_policies(anchor),
            initial_explicit_policy=explicit is not None and explicit <= length,
            initial_policy_mapping_inhibit=mapping is not None and mapping < length,
            initial_any_policy_inhibit=inhibit is not None and inhibit.native < length,
            initial_permitted_subtrees=permitted,
            initial_excluded_subtrees=excluded,
            max_policy_graph_nodes=_POLICY_NODES,
        ),
        max_path_length=anchor.max_path_length,
        # Attribute certificates play no part, but the library asks for both numbers or none.
        max_aa_path_length=anchor.max_path_length,
        valid_from=anchor.not_valid_before,
        valid_until=anchor.not_valid_after,
    )


def _anchor_policies(anchor: asn1_x509.Certificate) -> frozenset[str]:
    listed = anchor.certificate_policies_value
    if listed is None or any(p["policy_identifier"].native == "any_policy" for p in listed):
        return frozenset({"any_policy"})
    return frozenset(policy["policy_identifier"].dotted for policy in listed)


def _run(validation: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine that has nothing to wait for."""
    try:
        validation.send(None)
    except StopIteration:
        return
    validation.close()
    raise ChainInvalid(Fault.UNREADABLE, "the path asks for something that is not here")


def _policies(path: ValidationPath) -> frozenset[str]:
    # A policy that was mapped counts for neither name: the anchor's entry speaks of its own policies.
    return frozenset(
        policy.issuer_domain_policy_id
        for policy in path.qualified_policies() or ()
        if policy.issuer_domain_policy_id == policy.user_domain_policy_id
    )


def der(certificate: x509.Certificate) -> bytes:
    """Encode a certificate."""
    return certificate.public_bytes(Encoding.DER)
