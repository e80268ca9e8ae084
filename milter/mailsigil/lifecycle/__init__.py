"""A certificate for everybody in the directory: what should be, what is, and the way between them."""
