"""Settings, documented on the field, and how they are loaded."""
