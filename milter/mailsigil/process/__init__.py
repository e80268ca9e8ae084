"""Prefork supervision of worker processes. Imports none of ours."""
