"""A sender with two certificates: which of them signs, chosen by who gets the mail."""

from __future__ import annotations

from pathlib import Path

import pytest

import bank
from bank import ALICE, NOW, Bank, Done, mail, send
from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.errors import KeyAgentRefused, Refusal, SourceUnavailable
from mailsigil.keys.key_files import keys_from, read_key_file
from mailsigil.keys.local import FixedKeys
from mailsigil.keys.protocol import Credential
from mailsigil.keys.routes import DomainRoute
from mailsigil.keys.source import KeySource, SigningKey
from mailsigil.plan import Event, Outcome

BEN, PIA, OUT = "ben@bank.example", "Pia@Partner.example", "carl@customer.example"
PRIVATE, PUBLIC, FOLDER = "Private CA", "public", ""


class Dead:
    """A source that does not answer, and remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find(self, address: str) -> tuple[SigningKey, ...]:
        self.asked.append(address)
        raise SourceUnavailable(PUBLIC, "no answer within 2 s", "See that the service runs")

    def get(self, key_id: str) -> SigningKey | None:
        return None

    def count(self) -> int:
        return 0

    def refresh(self) -> None:
        """Nothing changes."""

    def reload(self) -> None:
        """Nothing changes."""


class Agent:
    """The key agent with its folder and two sources, behind no socket."""

    def __init__(self, folder: Path, *, public: KeySource | None = None, silent: str = "-") -> None:
        private = _keys(bank.bank(), folder)
        public = public or _keys(bank.stranger(), folder)
        sources = {PRIVATE: private, PUBLIC: public}
        routes = [DomainRoute(one, name=name, domains=["bank.example"]) for name, one in sources.items()]
        self._agent = KeyAgent([FixedKeys(()), *routes], now=lambda: NOW)
        self._silent = silent
        self._sources: dict[str, str] = {}

    def find(self, address: str, *, source: str = "", without: str = "") -> tuple[Credential, ...]:
        found = self._agent.find(address, source=source, without=without)
        self._sources.update({each.key_id: each.source for each in found})
        return found

    def sign(self, *, key_id: str, address: str, scheme: str, data: bytes) -> bytes:
        if self._sources[key_id] == self._silent:
            raise KeyAgentRefused(Refusal.SOURCE, f'source "{self._silent}": no answer within 2 s')
        return self._agent.sign(key_id=key_id, address=address, scheme=scheme, data=data, peer_uid=0)


def _keys(issued: Bank, folder: Path) -> FixedKeys:
    path = folder / "one.pem"
    path.write_bytes(issued.pem[ALICE])
    return FixedKeys(keys_from([read_key_file(path)], passphrase=None)[0])


TWO = """
[[domain]]
name = "bank.example"
signing = "{signing}"
certificates = [
    {{ recipients = ["*@bank.example", "*@PARTNER.example"], source = "private ca" }},
    {{ recipients = ["*"], source = "public"{otherwise} }},
]

[[person]]
address = "alice@bank.example"
logins = ["alice"]
"""


def policy(*, signing: str = "required", otherwise: str = "") -> str:
    return TWO.format(signing=signing, otherwise=f', otherwise = "{otherwise}"' if otherwise else "")


def sent(agent: Agent, *recipients: str, text: str = "") -> Done:
    return send(mail(), recipients=recipients, policy=text or policy(), keys=agent)


@pytest.mark.parametrize(
    ("recipients", "source"),
    [
        pytest.param([BEN], PRIVATE, id="a colleague"),
        pytest.param([BEN, PIA], PRIVATE, id="all fit the first rule"),
        pytest.param([OUT], PUBLIC, id="somebody outside"),
        pytest.param([BEN, OUT], PUBLIC, id="one body for both, so the rule that fits all"),
        pytest.param([BEN, "nobody at all"], PUBLIC, id="one that no pattern can name"),
        pytest.param(["*@bank.example", OUT], PUBLIC, id="a star in an address is a letter"),
        pytest.param([], PUBLIC, id="nobody is not everybody of the bank"),
    ],
)
def test_the_first_rule_that_all_recipients_fit(tmp_path: Path, recipients: list[str], source: str) -> None:
    done = sent(Agent(tmp_path), *recipients)
    assert done.plan.event is Event.SIGNED, done.plan.reason
    assert dict(done.plan.details)["source"] == source
    issued = bank.bank() if source == PRIVATE else bank.stranger()
    assert bank.judge(done.raw, parts=bank.verification(issued.trust())).identity is not None


ONE_RULE = """
[[person]]
address = "alice@bank.example"
logins = ["alice"]
signing = "required"
certificates = [{ recipients = ["*@partner.example"], source = "public" }]
"""


def test_where_no_rule_fits_the_certificates_decide(tmp_path: Path) -> None:
    done = sent(Agent(tmp_path), OUT, text=ONE_RULE)
    assert dict(done.plan.details)["source"] == PRIVATE  # equals, so the first


def test_the_folder_of_the_agent_is_a_source_too(tmp_path: Path) -> None:
    done = sent(Agent(tmp_path), PIA, text=ONE_RULE.replace('"public"', '"keyd"'))
    assert (done.plan.event, done.plan.outcome) == (Event.DEFERRED, Outcome.TEMPFAIL)
    assert 'the certificate of "keyd" is to sign: no certificate for alice@bank.example' in done.plan.reason


def test_a_dead_source_defers_the_mail_that_it_should_sign(tmp_path: Path) -> None:
    done = sent(Agent(tmp_path, public=Dead()), OUT)
    assert (done.plan.event, done.plan.outcome) == (Event.DEFERRED, Outcome.TEMPFAIL)
    assert 'source "public": no answer within 2 s' in done.plan.reason


def test_and_is_not_even_asked_for_other_mail(tmp_path: Path) -> None:
    dead = Dead()
    done = sent(Agent(tmp_path, public=dead), BEN)
    assert done.plan.event is Event.SIGNED
    assert dead.asked == []


def test_preferred_mail_of_a_dead_source_goes_unsigned(tmp_path: Path) -> None:
    done = sent(Agent(tmp_path, public=Dead()), OUT, text=policy(signing="preferred"))
    assert (done.plan.event, done.plan.outcome) == (Event.PASSED, Outcome.ACCEPT)


@pytest.mark.parametrize(
    "agent",
    [
        pytest.param(lambda folder: Agent(folder, public=Dead()), id="the source is dead"),
        pytest.param(lambda folder: Agent(folder, public=FixedKeys(())), id="it has no certificate"),
        pytest.param(lambda folder: Agent(folder, silent=PUBLIC), id="it tells of a key and does not sign"),
    ],
)
@pytest.mark.parametrize(("otherwise", "event"), [("any", Event.SIGNED), ("fail", Event.DEFERRED)])
def test_otherwise(tmp_path: Path, agent: type[Agent], otherwise: str, event: Event) -> None:
    done = sent(agent(tmp_path), OUT, text=policy(otherwise=otherwise))
    assert done.plan.event is event, done.plan.reason
    if event is Event.SIGNED:
        assert dict(done.plan.details)["source"] == PRIVATE


def test_a_level_that_policy_does_not_want_is_no_certificate(tmp_path: Path) -> None:
    text = policy().replace('"required"', '"required"\nlevel = "V1"')
    done = sent(Agent(tmp_path), OUT, text=text)
    assert done.plan.event is Event.DEFERRED
    assert 'the certificate of "public" is to sign' in done.plan.reason
    assert "say V4, and V1 may be" in done.plan.reason
