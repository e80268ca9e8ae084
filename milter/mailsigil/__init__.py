"""mailsigil: tells people who really sent a mail."""
