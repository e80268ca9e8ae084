"""From settings to a working whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import bank
from bank import ALICE, CUSTOMER, mail
from mailsigil.config.errors import ConfigError
from mailsigil.config.settings import Settings
from mailsigil.pki.anchors import AnchorError
from mailsigil.pki.policies import Level
from mailsigil.plan import Envelope, Event, InsertField, Outcome
from mailsigil.service import Service, build_service, new_spool, trust_store, verification_parts


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "root.pem").write_bytes(bank.bank().root.public_bytes(Encoding.PEM))
    (tmp_path / "policy.toml").write_text(bank.POLICY)
    return Settings.model_validate(
        {
            "inbound": {"authserv_id": bank.HOST, "daemons": ["mx"]},
            "outbound": {"trusted_networks": ["192.0.2.0/24"], "daemons": ["submission"]},
            "policy": {"file": str(tmp_path / "policy.toml")},
            "keyd": {"socket": str(tmp_path / "keyd.sock"), "timeout": 0.2},
            "trust": [{"name": "bank", "files": [str(tmp_path / "root.pem")], "asserts": ["mailsigil"]}],
            "dns": {"servers": ["127.0.0.1"], "port": 9, "timeout": 0.1},
            "limits": {"mime_parts": 7, "mime_depth": 3, "signers": 2, "certificates": 4, "memory_bytes": 10},
        },
        strict=False,
    )


@pytest.fixture
def service(settings: Settings) -> Service:
    return build_service(settings)


def test_what_comes_in_is_verified(service: Service) -> None:
    plan = service.handle(Envelope(daemon_name="mx", client_address="192.0.2.1"), *bank.cut(mail()))
    assert plan.event is Event.PASSED
    assert sum(isinstance(edit, InsertField) for edit in plan.edits) == 3


def test_what_goes_out_is_signed_or_waits(service: Service) -> None:
    """No key agent answers here, and Alice's mail must be signed."""
    envelope = Envelope(login="alice", mail_from=ALICE, recipients=(CUSTOMER,))
    plan = service.handle(envelope, *bank.cut(mail()))
    assert (plan.event, plan.outcome) == (Event.DEFERRED, Outcome.TEMPFAIL)
    assert "KeyAgentUnavailable" in plan.reason


@pytest.mark.parametrize(
    "envelope", [pytest.param(Envelope(), id="inbound"), pytest.param(Envelope(login="alice"), id="outbound")]
)
@pytest.mark.parametrize("bound", ["header_fields", "header_bytes", "message_bytes", "recipients"])
def test_past_a_bound_mail_is_refused_both_ways(service: Service, envelope: Envelope, bound: str) -> None:
    """What was not kept was not looked at, and may hold forged fields."""
    plan = service.handle(envelope, *bank.cut(mail()), over_limit=bound)
    assert (plan.event, plan.outcome) == (Event.REFUSED, Outcome.REFUSE_SIZE)
    assert plan.edits == ()
    assert (plan.outcome.code, plan.outcome.status) == ("552", "5.3.4")
    assert bound in plan.reason


def test_a_policy_file_that_cannot_be_used_is_an_error(settings: Settings) -> None:
    Path(settings.policy.file).write_text("[default]\nsigning = 'sometimes'\n")
    with pytest.raises(ConfigError, match=r"policy\.toml:2"):
        build_service(settings)


def test_an_anchor_file_that_cannot_be_used_is_an_error(settings: Settings) -> None:
    Path(settings.trust[0].files[0]).write_text("no certificate")
    with pytest.raises(AnchorError, match=r"root\.pem"):
        build_service(settings)


def test_limits_reach_those_who_obey_them(settings: Settings) -> None:
    parts = verification_parts(settings, trust_store(settings))
    assert (parts.mime_limits.parts, parts.mime_limits.depth) == (7, 3)
    assert (parts.cms_limits.signers, parts.cms_limits.certificates) == (2, 4)
    with new_spool(settings)() as spool:
        spool.write(b"more than ten octets")
        assert len(spool) == 20


def test_trust_entries_keep_what_they_say(settings: Settings) -> None:
    entry = settings.trust[0].model_copy(update={"oids": {"1.2.3": "V3"}, "domains": ("bank.example",)})
    fixed = settings.trust[0].model_copy(update={"asserts": (), "level": "V2", "name": "other"})
    anchors, others = trust_store(settings.model_copy(update={"trust": (entry, fixed)})).sets
    assert (anchors.name, anchors.level, anchors.asserts) == ("bank", None, {"mailsigil"})
    assert anchors.oids == {"1.2.3": Level.V3}
    assert anchors.domains == {"bank.example"}
    assert anchors.certificates == (bank.bank().root,)
    assert (others.name, others.level) == ("other", Level.V2)
