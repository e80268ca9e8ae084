"""The settings of ``[usage]``: counts of signatures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mailsigil.config.fields import OptionalPath
from mailsigil.config.section import Section


class UsageSettings(Section):
    """Counts of signatures for each sender and month, for bills: `mailsigil usage` shows them.

    The key agent counts, and writes into the database of [lifecycle] every now and then. No mail waits for
    that: while the database is away, counts are kept in memory and in a folder.
    """

    count: Literal["auto", "on", "off"] = Field(
        default="auto", description='"auto": where [lifecycle] is enabled. "on": in any case.'
    )
    spool: OptionalPath = Field(
        default="",
        description="Folder for counts that are not in the database yet, so that a restart loses none. Empty:"
        ' "usage" beside the file of an SQLite database, else /var/lib/mailsigil/keyd/usage.',
    )
    flush_seconds: float = Field(
        default=15.0, ge=0.1, le=3600, description="Seconds from one writing into the database to the next."
    )
    keep_months: int = Field(
        default=0,
        ge=0,
        le=1200,
        description="Months that counts are kept, this one not counted; 0: for good.",
    )
