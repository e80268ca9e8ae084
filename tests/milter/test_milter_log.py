"""Log lines that no sender can break or fake."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsigil.milter.log import clean, log_failure, log_plan
from mailsigil.plan import Event, Outcome, Plan


def lines(caplog: pytest.LogCaptureFixture, plan: Plan, queue_id: str = "4Q") -> list[tuple[str, str]]:
    caplog.clear()
    with caplog.at_level(logging.INFO, "mailsigil.milter"):
        log_plan(queue_id, plan)
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        pytest.param(
            Plan(event=Event.SIGNED, details=(("address", "a@b"), ("key", "p256"))),
            [("INFO", "4Q: signed address=a@b key=p256")],
            id="signed",
        ),
        pytest.param(
            Plan(event=Event.PASSED, reason="no policy"),
            [("INFO", '4Q: passed reason="no policy"')],
            id="reason with a space",
        ),
        pytest.param(
            Plan(event=Event.REFUSED, outcome=Outcome.REFUSE_SENDER, reason="login-mismatch"),
            [("WARNING", '4Q: refused reason=login-mismatch reply="550 5.7.1"')],
            id="refused",
        ),
        pytest.param(
            Plan(event=Event.VERIFIED, details=(("name", 'A "B" \\ C'), ("org", "Bänk"), ("title", ""))),
            [("INFO", '4Q: verified name="A \\"B\\" \\\\ C" org="Bänk" title=""')],
            id="quoting",
        ),
        pytest.param(
            Plan(event=Event.SIGNED, warnings=("set milter order",)),
            [("INFO", "4Q: signed"), ("WARNING", '4Q: warning text="set milter order"')],
            id="warning",
        ),
        pytest.param(
            Plan(event=Event.PASSED, details=(("x", "a\r\n5Q: signed\0\u202e\udcff"),)),
            [("INFO", '4Q: passed x="a\\r\\n5Q: signed\\x00\\u202e\\udcff"')],
            id="line breaks, NUL, bidi, broken bytes",
        ),
    ],
)
def test_plans(caplog: pytest.LogCaptureFixture, plan: Plan, expected: list[tuple[str, str]]) -> None:
    assert lines(caplog, plan) == expected


def test_values_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    ((_, text),) = lines(caplog, Plan(event=Event.PASSED, details=(("x", "y" * 5000),)))
    assert len(text) < 400
    assert "…" in text


def test_failure_names_error_and_place_and_not_what_the_sender_wrote_on_lines_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    try:
        raise ValueError("bad\n4Z: signed address=ceo@bank.example")
    except ValueError as error:
        log_failure("4Q", error)
    text = caplog.text
    assert '4Q: failed reason=ValueError error="bad\\n4Z: signed address=ceo@bank.example"' in text
    assert "test_milter_log.py" in text
    assert not any(line.startswith("4Z") for line in text.splitlines())


@settings(max_examples=100)
@given(st.text(max_size=400))
def test_clean_text_is_one_printable_line_of_bounded_length(text: str) -> None:
    result = clean(text)
    assert result.isprintable()
    assert len(result) <= 301 * 10
    result.encode()
