"""Path validation, trust anchors, and what identity level a certificate gives. Imports none of ours."""
