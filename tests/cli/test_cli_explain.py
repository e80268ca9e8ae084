"""``mailsigil explain`` and the option ``--config``, as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mailsigil.cli.explain import command

ROOT = Path(__file__).resolve().parent.parent.parent
POLICY = ROOT / "policies" / "example-policy.toml"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mailsigil.toml"
    path.write_text(f'[policy]\nfile = "{POLICY}"\n', encoding="utf-8")
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
    ]


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
