"""What build.py makes is judged by three verifiers that other people wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cms.cms_pki import CONTENT, EVERY_SCHEME, authority, sign_detached, sign_opaque
from mailsigil.cms.algorithms import Scheme
from servers.verifiers import TOOLS, Verifiers, expect_acceptance


@pytest.fixture(scope="module")
def verifiers() -> Iterator[Verifiers]:
    with Verifiers(authority().certificate) as all_tools:
        yield all_tools


@pytest.mark.parametrize(
    ("tool", "scheme"),
    [pytest.param(tool, scheme, id=f"{tool}-{scheme.value}") for tool in TOOLS for scheme in EVERY_SCHEME],
)
@pytest.mark.parametrize("form", ["detached", "opaque"])
def test_other_verifiers_accept(tool: str, scheme: Scheme, form: str, verifiers: Verifiers) -> None:
    if form == "detached":
        answer = verifiers[tool](sign_detached(scheme), CONTENT)
    else:
        answer = verifiers[tool](sign_opaque(scheme), None, inside=CONTENT)
    expect_acceptance(tool, scheme, answer)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_verifiers_are_awake(tool: str, verifiers: Verifiers) -> None:
    """A verifier that says yes to changed content would prove nothing above."""
    changed = CONTENT.replace(b"signed", b"forged")
    assert verifiers[tool](sign_detached(Scheme.RSA_PKCS1_SHA256), changed) != ""
