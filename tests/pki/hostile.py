"""A table of paths as a hostile or careless authority would make them. The tables fill it when imported."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509

from mailsigil.pki.path import PathStatus
from pki.pki_make import NOW, leaf, make, name, root

TRUE = PathStatus.TRUSTED
ROOT = root()


@dataclass(frozen=True)
class Case:
    """One path. ``openssl`` is what OpenSSL says, with ``why`` where that is not what we say.

    It is None where releases of OpenSSL disagree.
    """

    ours: PathStatus
    sender: Any
    pool: tuple[Any, ...]
    anchors: tuple[Any, ...]
    openssl: bool | None
    why: str
    at: datetime
    options: tuple[str, ...]


CASES: dict[str, Case] = {}


def case(
    title: str,
    ours: PathStatus,
    sender: Any,
    *pool: Any,
    anchor: Any = ROOT,
    why: str = "",
    at: datetime = NOW,
    options: tuple[str, ...] = (),
    depends: bool = False,
) -> None:
    """Note a case; with ``why`` OpenSSL says the opposite of what we say, or that ``depends``."""
    assert title not in CASES, title
    anchors = anchor if isinstance(anchor, tuple) else (anchor,)
    openssl = None if depends else (ours is TRUE) is not bool(why)
    CASES[title] = Case(ours, sender, pool, anchors, openssl, why, at, options)


def below(ours: PathStatus, title: str, authority: Any, *given: Any, why: str = "", **options: Any) -> None:
    """Note a case about an intermediate authority under the root."""
    case(title, ours, leaf(authority, *given, **options), authority, why=why)


def authority(*given: x509.ExtensionType, **options: Any) -> Any:
    subject = options.pop("subject", name(o="Example Bank", cn="Sub"))
    return make(subject, options.pop("by", ROOT), *given, **({"ca": True} | options))
