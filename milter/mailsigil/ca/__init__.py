"""The embedded authority as a service: enrolment (EST, RFC 7030) over HTTPS; revocation lists and OCSP over
HTTP. The authority itself, with its keys, is in ``keys/``."""
