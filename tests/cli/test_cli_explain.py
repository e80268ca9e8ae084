"""``mailsigil explain`` and the option ``--config``, as a person meets them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from keys.employees import ISSUING, employee
from mailsigil.cli.explain import command
from mailsigil.config.sources import EmbeddedSource, EnrolmentSettings, SourceSettings
from mailsigil.keys.agent import KeyAgent
from mailsigil.keys.client import KeyAgentClient
from mailsigil.keys.enrolment import Managed
from mailsigil.keys.errors import SourceUnavailable
from mailsigil.keys.local import FixedKeys
from mailsigil.keys.routes import DomainRoute
from mailsigil.keys.server import KeyAgentServer, listen
from mailsigil.keys.soft_key import SoftKey, soft_key
from mailsigil.keys.sources.build import build_source

ROOT = Path(__file__).resolve().parent.parent.parent
POLICY = ROOT / "policies" / "example-policy.toml"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mailsigil.toml"
    path.write_text(f'[policy]\nfile = "{POLICY}"\n[keyd]\nsocket = "/nowhere/keyd.sock"\n', encoding="utf-8")
    return path


def _run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments, "--config", str(config)])


def test_shows_each_setting_with_its_value_and_source(config: Path) -> None:
    result = _run(config, "Bob@Bank.example")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "sender             bob@bank.example",
        "person             Bob Sample",
        "addresses          bob@bank.example",
        "logins             bob@bank.example",
        "may send as        -",
        "entitled           V1, V2, V3, V4: no validation is recorded: the certificate's level counts",
        "",
        "signing            preferred             from example-policy.toml:30 person bob@bank.example",
        "form               opaque                from example-policy.toml:30 person bob@bank.example",
        "unauthorised       refuse                from example-policy.toml:13 domain bank.example",
        "misordered_dkim    strip                 from example-policy.toml:6 default",
        "exempt_recipients  *@lists.bank.example  from example-policy.toml:13 domain bank.example",
        "level              V4                    from built-in default",
        "timestamp          never                 from built-in default",
        "certificates       -                     from built-in default",
        "domain_signature   no                    from built-in default",
        "decryption         default               from built-in default",
        "",
        "all other mail: none: the key agent at /nowhere/keyd.sock cannot be reached:"
        " No such file or directory",
        "  no rule decides, so the one that says most",
    ]


@pytest.fixture
def two_sources(tmp_path: Path) -> Iterator[Path]:
    """A configuration with a key agent that has two sources, of which one is dead."""
    policy, socket = tmp_path / "policy.toml", tmp_path / "s"
    policy.write_text(
        '[[person]]\naddress = "alice@bank.example"\nsigning = "required"\ncertificates = ['
        ' { recipients = ["*@bank.example"], source = "private" },'
        ' { recipients = ["*@partner.example"], source = "public", otherwise = "any" },'
        ' { recipients = ["*@customer.example"], source = "public" } ]\n'
        'exempt_recipients = ["*@lists.example"]\n'
    )
    sources = "".join(
        f'[[source]]\nname = "{name}"\nkind = "folder"\ndomains = ["bank.example"]\n'
        f'[source.folder]\npath = "/{name}"\n'
        for name in ("private", "public")
    )
    config = tmp_path / "mailsigil.toml"
    config.write_text(f'[policy]\nfile = "{policy}"\n[keyd]\nsocket = "{socket}"\n{sources}')
    who = employee(begin=datetime.now(UTC) - timedelta(days=1))
    key = soft_key(who.key, who.certificate, [ISSUING], origin=Path("/test"))
    routes = [
        DomainRoute(one, name=name, domains=["bank.example"])
        for name, one in (("private", FixedKeys([key])), ("public", Dead()))
    ]
    with _served(routes, socket):
        yield config


@contextmanager
def _served(routes: Sequence[DomainRoute], socket: Path) -> Iterator[None]:
    agent = KeyAgent(routes, now=lambda: datetime.now(UTC))
    with listen(socket, mode=0o600) as listener:
        server = KeyAgentServer(agent, listener, allowed_uids={os.geteuid()})
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield
        finally:
            server.stop()
            thread.join()


class Dead(FixedKeys):
    def __init__(self) -> None:
        super().__init__(())

    def find(self, address: str) -> tuple[SoftKey, ...]:
        raise SourceUnavailable("public", "no answer within 2 s", "See that it runs")


def _chosen(config: Path, *arguments: str) -> list[str]:
    result = _run(config, "alice@bank.example", *arguments)
    assert result.exit_code == 0, result.output
    return result.output.split("\n\n")[-1].splitlines()


def test_shows_which_certificate_signs_and_why(two_sources: Path) -> None:
    lines = _chosen(two_sources)
    signs = 'V1 from "private", issued by Test Issuing CA, serial '
    assert lines[0].startswith(f"mail to *@bank.example: {signs}")
    assert lines[1] == '  by the rule "private for *@bank.example"'
    assert lines[2].startswith(f"mail to *@partner.example: {signs}")
    assert lines[3] == '  by the rule "public, else any, for *@partner.example"'
    assert lines[4].startswith('mail to *@customer.example: none: the certificate of "public" is to sign: ')
    assert 'source "public": no answer within 2 s' in lines[4]
    # Without a rule all sources are asked, and none signs in place of one that is silent (when_silent).
    assert lines[6] == 'all other mail: none: source "public": no answer within 2 s (source)'
    assert lines[7] == "  no rule decides, so the one that says most"


@pytest.mark.parametrize(
    ("recipients", "said"),
    [
        pytest.param(["Bob@Bank.example"], 'mail to bob@bank.example: V1 from "private"', id="one"),
        pytest.param(["c@customer.example"], "mail to c@customer.example: none: ", id="a dead source"),
        pytest.param(
            ["bob@bank.example", "c@customer.example"],
            'mail to bob@bank.example c@customer.example: none: source "public"',
            id="one mail to both, whom no rule fits",
        ),
        pytest.param(["all@lists.example"], "mail to all@lists.example: none: these", id="exempt"),
    ],
)
def test_for_one_mail(two_sources: Path, recipients: list[str], said: str) -> None:
    lines = _chosen(two_sources, *(word for one in recipients for word in ("--to", one)))
    assert lines[0].startswith(said)
    assert len(lines) == 2


def test_certificates_in_json(two_sources: Path) -> None:
    answer = json.loads(_run(two_sources, "--json", "alice@bank.example").output)
    assert [one["recipients"] for one in answer["policy"]["certificates"]["value"]] == [
        ["*@bank.example"],
        ["*@partner.example"],
        ["*@customer.example"],
    ]
    certificates = answer["certificates"]
    assert certificates[0]["certificate"]["source"] == "private"
    assert certificates[2]["certificate"] is None
    assert len(certificates) == 4


def test_nobody_s_certificate_is_not_asked_for(two_sources: Path) -> None:
    output = _run(two_sources, "nobody@bank.example").output
    assert "all other mail: none: signing is never" in output


def test_a_recipient_that_is_none(two_sources: Path) -> None:
    result = _run(two_sources, "alice@bank.example", "--to", "bob")
    assert result.exit_code == 2
    assert "--to" in result.output


def test_nothing_is_brought_about_by_asking(tmp_path: Path) -> None:
    """Whoever's certificate was revoked gets none because somebody looks."""
    provisioned: list[str] = []
    socket, policy, config = tmp_path / "s", tmp_path / "policy.toml", tmp_path / "mailsigil.toml"
    policy.write_text('[[person]]\naddress = "alice@bank.example"\nsigning = "required"\n')
    config.write_text(f'[policy]\nfile = "{policy}"\n[keyd]\nsocket = "{socket}"\n')
    settings = SourceSettings(
        name="ca",
        kind="embedded",
        domains=("bank.example",),
        embedded=EmbeddedSource(folder="/nowhere"),
        enrolment=EnrolmentSettings(state=str(tmp_path / "state")),
    )
    managed = Managed(provisioned.append, 5)
    source = build_source(settings, now=lambda: datetime.now(UTC), managed=managed)
    with _served([source], socket):
        (line, _) = _chosen(config)
        assert line == "all other mail: none: no certificate for alice@bank.example"
        assert provisioned == []
        assert KeyAgentClient(socket).find("alice@bank.example") == ()  # As mail asks.
        assert provisioned == ["alice@bank.example"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ('name = "Alice Example"\ntitle = "Clerk"', "V4: Alice Example, Clerk, Example Bank"),
        (
            'name = "Cher"',
            "V3: Example Bank; V4 needs a given name and a surname of at most 64 letters",
        ),
        ('name = "Alice Example"\nlevel = "V1"', 'V1; policy wants no more than V1 ("level", policy.toml:'),
        ('name = "Alice Example"\nsigning = "never"', "none: policy never signs this mail"),
    ],
)
def test_what_a_certificate_will_say(tmp_path: Path, values: str, says: str) -> None:
    (tmp_path / "policy.toml").write_text(
        '[default]\nsigning = "required"\n[[organisation]]\nname = "Example Bank"\n'
        'domains = ["bank.example"]\nvalidated_until = 2038-01-01\n'
        f'[[person]]\naddress = "alice@bank.example"\nvalidated_level = "V4"\n{values}\n'
    )
    config = tmp_path / "mailsigil.toml"
    config.write_text(
        f'[policy]\nfile = "{tmp_path}/policy.toml"\n[keyd]\nsocket = "/nowhere/keyd.sock"\n'
        '[lifecycle]\nenabled = true\n[[source]]\nname = "ca"\nkind = "embedded"\n'
        'domains = ["bank.example"]\n[source.embedded]\nfolder = "/nowhere/ca"\n'
    )
    (line,) = [
        line
        for line in _run(config, "alice@bank.example").output.splitlines()
        if line.startswith("certificate ")
    ]
    assert line.split(maxsplit=1)[1].startswith(says)
    answer = json.loads(_run(config, "--json", "alice@bank.example").output)
    assert answer["will_say"]["ca"].startswith(says)


def test_unknown_sender_is_said_to_be_unknown(config: Path) -> None:
    result = _run(config, "eve@bank.example")
    assert result.exit_code == 0
    assert "nobody in the directory has this address" in result.output


def test_json(config: Path) -> None:
    answer = json.loads(_run(config, "--json", "alice.example@bank.example").output)
    assert answer["person"]["addresses"] == ["alice@bank.example", "alice.example@bank.example"]
    assert answer["policy"]["signing"] == {
        "value": "required",
        "source": "example-policy.toml:13 domain bank.example",
    }
    assert json.loads(_run(config, "--json", "eve@x.example").output)["person"] is None


@pytest.mark.parametrize("address", ["alice", "*@*@", "alice@bank.example\nx", ""])
def test_wrong_address_is_wrong_use(config: Path, address: str) -> None:
    result = _run(config, address)
    assert result.exit_code == 2
    assert "ADDRESS" in result.output


def test_bad_configuration_prints_all_findings_and_ends_with_2(config: Path) -> None:
    config.write_text("[milter]\nwrokers = 1\nworkers = -1\n", encoding="utf-8")
    result = _run(config, "alice@bank.example")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f'{config}:2: unknown key "wrokers" in [milter]; did you mean "workers"?',
        f'{config}:3: "workers" in [milter] must be at least 0, and is -1',
    ]


def test_bad_policy_file_ends_with_2(config: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[default]\nsigning = "always"\n', encoding="utf-8")
    config.write_text(f'[policy]\nfile = "{policy}"\n', encoding="utf-8")
    result = _run(config, "alice@bank.example")
    assert result.exit_code == 2
    assert result.stderr.startswith(f'{policy}:2: "signing" in [default] must be')


def test_configuration_is_found_through_the_environment(config: Path) -> None:
    result = CliRunner(env={"MAILSIGIL_CONFIG": str(config)}).invoke(command, ["bob@bank.example"])
    assert result.exit_code == 0
    assert "Bob Sample" in result.output
