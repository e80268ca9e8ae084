"""The conformance test for a customer's CA or key-management system: every operation that mailsigil needs is
run against a configured source with a test address, and the answers are judged."""
