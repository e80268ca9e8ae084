"""Both kinds of database, as the tests of the lifecycle have them."""

from lifecycle.conftest import fresh_postgresql, postgresql, settings

__all__ = ["fresh_postgresql", "postgresql", "settings"]
