"""The milter's log lines: ``queue-id: event key=value``, one a message."""

from __future__ import annotations

import logging
import re
import traceback

from mailsigil.plan import Event, Plan

log = logging.getLogger("mailsigil.milter")

_MAX_VALUE = 300
_PLAIN = re.compile(r"[!#-<>-\[\]-~]{1,300}")
"""A value that needs no quotes: printable ASCII without space, quote, equals sign and backslash."""
_LEVELS = {Event.REFUSED: logging.WARNING, Event.DEFERRED: logging.WARNING, Event.FAILED: logging.ERROR}


def log_plan(queue_id: str, plan: Plan) -> None:
    """Say what was done with a message, and one line for each warning."""
    level = _LEVELS.get(plan.event, logging.INFO)
    queue_id = clean(queue_id)
    if log.isEnabledFor(level):
        pairs = [*plan.details]
        if plan.reason:
            pairs.insert(0, ("reason", plan.reason))
        if plan.outcome.code:
            pairs.append(("reply", f"{plan.outcome.code} {plan.outcome.status}"))
        text = "".join(f" {clean(key)}={_quoted(value)}" for key, value in pairs)
        log.log(level, "%s: %s%s", queue_id, plan.event.value, text)
    for warning in plan.warnings:
        log.warning("%s: warning text=%s", queue_id, _quoted(warning))


def log_failure(queue_id: str, error: Exception) -> None:
    """Say that an unexpected error made a message wait, with the way that led there."""
    # The traceback without its last line, which is the error's text and may hold what a sender wrote.
    log.error(
        "%s: %s reason=%s error=%s\n%s",
        clean(queue_id),
        Event.FAILED.value,
        type(error).__name__,
        _quoted(str(error)),
        "".join(traceback.format_tb(error.__traceback__)).rstrip(),
    )


def clean(text: str) -> str:
    """Text without anything that could break or fake a log line, and of a sane length."""
    cut = text if len(text) <= _MAX_VALUE else text[:_MAX_VALUE] + "…"
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)


def _quoted(text: str) -> str:
    """A value in logfmt: bare when it is one plain word, else in double quotes."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + clean(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'
