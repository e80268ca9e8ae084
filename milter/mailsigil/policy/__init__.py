"""What should happen to this sender's mail, and by which rule. Imports none of ours."""
