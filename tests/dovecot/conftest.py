"""For tests with a Dovecot: a folder that its users can reach, and a search for private keys at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from servers.leaks import PrivateKey, Secrets
from servers.sieve import open_folder

PLACES_FOR_KEYS = frozenset({"keys", "private", "ca"})
"""Folders where keys lie on purpose: the key agent's, and the store of kind "folder"."""


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder of its own for tests with servers.

    Each pytest that starts as this user closes the common folder of all of them to others for a moment; mail
    users of a Dovecot that runs there then have neither their mail nor their keys.
    """
    if request.node.get_closest_marker("integration") is None:
        yield tmp_path
        return
    with open_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def no_private_key_is_left(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registers the keys that the test makes, also by commands that keep them in a folder."""
    with_servers = request.node.get_closest_marker("integration") is not None
    if not with_servers or "tmp_path" not in request.fixturenames:
        yield
        return
    folder: Path = request.getfixturevalue("tmp_path")
    made: list[PrivateKey] = []

    def recorded(make: Callable[..., Any]) -> Callable[..., Any]:
        def making(*arguments: Any, **named: Any) -> Any:
            made.append(make(*arguments, **named))
            return made[-1]

        return making

    for module in (ec, rsa):
        monkeypatch.setattr(module, "generate_private_key", recorded(module.generate_private_key))
    yield
    secrets = Secrets()
    for number, key in enumerate(made, 1):
        secrets.add(f"key {number} of this test", key)
    places = [path for path in folder.rglob("*") if path.is_dir() and path.name in PLACES_FOR_KEYS]
    for path in (path for place in places for path in place.rglob("*.pem")):
        if b"-----BEGIN PRIVATE KEY" in path.read_bytes():
            secrets.add_pem(f"the key of {path.name}", path.read_bytes())
    assert secrets.found(folder, but=places) == []
