"""How an administrator writes which certificate signs for which recipients: in TOML, and as lines in LDAP.

The values of an LDAP attribute have no order, so each line begins with a number::

    10 corporate: *@bank.example *@partner.example
    20 public | any: *
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict

from mailsigil.config.fields import List
from mailsigil.config.sources import SourceName
from mailsigil.policy.certificates import EVERYBODY, OWN_FOLDER, CertificateRule, Otherwise, unreached
from mailsigil.policy.patterns import PatternError, parse_pattern

MAX_RULES: Final = 100
"""Rules of one entry that are read."""

_LINE: Final = re.compile(
    r"(?P<number>[0-9]{1,9})\s+(?P<source>[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}?)\s*"
    r"(?P<any>\|\s*any\s*)?:\s*(?P<recipients>\S.*)",
    re.IGNORECASE,
)
_FORM: Final = 'write "NUMBER SOURCE: PATTERN PATTERN ...", such as "10 corporate: *@bank.example"'


def _recipient(text: str) -> str:
    if text != EVERYBODY:
        parse_pattern(text)
    return text


Recipient = Annotated[str, AfterValidator(_recipient)]


class CertificateKeys(BaseModel):
    """One element of ``certificates``."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    recipients: List[Recipient] = Field(
        min_length=1,
        description='The rule is for mail that goes to these alone: patterns, or "*" for everybody.',
    )
    source: SourceName = Field(
        description='Name of the [[source]] whose certificate signs; "keyd" is the folder of [keyd].'
    )
    otherwise: Annotated[Otherwise, Strict(False)] = Field(
        default=Otherwise.FAIL,
        description='Where it has none for the sender, or does not answer: "fail" (required mail waits), or'
        ' "any" other certificate of the sender.',
    )

    @property
    def rule(self) -> CertificateRule:
        """What policy knows of it."""
        return CertificateRule(recipients=self.recipients, source=self.source, otherwise=self.otherwise)


def reached(rules: tuple[CertificateKeys, ...] | None) -> tuple[CertificateKeys, ...] | None:
    """Refuse (ValueError) a rule that no mail can reach."""
    late = unreached([keys.rule for keys in rules or ()])
    if late is not None:
        raise ValueError(f'the rule for "{late.source}" is never reached: one for "*" stands before it')
    return rules


def known_source(source: str, sources: frozenset[str] | None) -> bool:
    """Tell whether there is such a source; ``sources`` are names in lower case, None: nobody knows."""
    return sources is None or source.lower() in sources or source.lower() == OWN_FOLDER


def no_such_source(source: str, sources: frozenset[str]) -> str:
    """The sentence about a source that is not there."""
    known = ", ".join(f'"{name}"' for name in sorted(sources | {OWN_FOLDER}))
    return f'there is no [[source]] "{source}"; known are {known}'


def read_lines(texts: Iterable[str], note: Callable[[str], None]) -> tuple[CertificateRule, ...]:
    """Read the values of ``mailsigilCertificate``. What cannot be read is noted, and left out."""
    found: list[tuple[int, str, CertificateRule]] = []
    for text in list(texts)[:MAX_RULES]:
        if text.lower() == "none":
            continue  # leaves the choice open, and keeps less specific entries from it
        try:
            found.append(_read_line(text))
        except ValueError as error:
            note(f"{error}; the line is left out")
    found.sort(key=lambda each: each[:2])
    for one, following in pairwise(found):
        if one[0] == following[0]:
            note(f'two lines have the number {one[0]}; "{one[1]}" is taken first')
    rules = tuple(rule for _, _, rule in found)
    late = unreached(rules)
    if late is not None:
        note(f'the line for "{late.source}" is never reached: one for "*" has a smaller number')
    return rules


def _read_line(text: str) -> tuple[int, str, CertificateRule]:
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError(f'mailsigilCertificate is "{text}": {_FORM}')
    recipients = tuple(match["recipients"].replace(",", " ").split())
    for one in recipients:
        try:
            _recipient(one)
        except PatternError as error:
            raise ValueError(f'mailsigilCertificate is "{text}": {error}') from error
    otherwise = Otherwise.ANY if match["any"] else Otherwise.FAIL
    rule = CertificateRule(recipients=recipients, source=match["source"], otherwise=otherwise)
    return int(match["number"]), text, rule
