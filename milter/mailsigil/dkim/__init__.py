"""DKIM verdicts (RFC 6376) and what our edits would do to DKIM signatures."""
