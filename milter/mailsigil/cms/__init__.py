"""S/MIME structures (RFC 5652, RFC 8551): build and parse. Imports none of ours."""
