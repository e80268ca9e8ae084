"""Keys that encrypt stored mail: where each mail domain keeps them, and what is believed of an answer."""
