"""What all sections of the configuration share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """What all sections share: frozen, strict in types, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
