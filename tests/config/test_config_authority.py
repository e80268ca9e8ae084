"""``ca.toml``: the example file is written from the documentation on the fields."""

from __future__ import annotations

from pathlib import Path

from mailsigil.config.authority import AuthoritySettings
from mailsigil.config.document import load_document
from mailsigil.config.example import example_authority

EXAMPLE = Path(__file__).resolve().parents[2] / "packaging" / "ca.toml"


def test_the_example_is_what_the_documentation_says() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == example_authority()


def test_the_example_gives_the_defaults() -> None:
    assert load_document(EXAMPLE, AuthoritySettings).value == AuthoritySettings()


def test_the_example_with_every_setting_gives_the_defaults(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    path = tmp_path / "ca.toml"
    path.write_text(
        "\n".join(
            line[1:] if line[:1] == "#" and line[:2] != "# " and len(line) > 1 else line for line in lines
        )
    )
    loaded = load_document(path, AuthoritySettings).value
    assert loaded.enrol[0].user == "keyd"
    assert loaded.model_copy(update={"enrol": ()}) == AuthoritySettings()
