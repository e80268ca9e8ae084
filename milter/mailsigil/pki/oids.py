"""The object identifiers that this room reads and the embedded authority writes.

The policies of the CA/Browser Forum S/MIME Baseline Requirements (section 7.1.6.1) are
``2.23.140.1.5.<type>.<generation>``. A private authority must not issue them, so the embedded one has
policies of its own under a UUID arc (ITU-T X.667), which nobody else can own.
"""

from __future__ import annotations

from typing import Final

BR_ARC: Final = "2.23.140.1.5"
BR_MAILBOX: Final = f"{BR_ARC}.1"
BR_ORGANISATION: Final = f"{BR_ARC}.2"
BR_SPONSOR: Final = f"{BR_ARC}.3"
BR_INDIVIDUAL: Final = f"{BR_ARC}.4"

ARC: Final = "2.25.267635290998129121824293215843650245408"
"""Everything that mailsigil defines."""
LEVEL_ARC: Final = f"{ARC}.1"
"""``.1`` to ``.4`` below it are the policies for V1 to V4."""

ANY_POLICY: Final = "2.5.29.32.0"
"""RFC 5280 4.2.1.4."""

SMTP_UTF8_MAILBOX: Final = "1.3.6.1.5.5.7.8.9"
"""The otherName for addresses with a non-ASCII local part (RFC 9598 3)."""
