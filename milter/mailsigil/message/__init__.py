"""One mail as bytes: header fields, MIME slices, the 7-bit form, the spool. Imports none of ours."""
