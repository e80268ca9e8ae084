"""What Dovecot asks of the key agent: private storage keys at login, public ones at delivery."""
