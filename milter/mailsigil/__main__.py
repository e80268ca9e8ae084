"""``python -m mailsigil``: the same as the ``mailsigil`` command."""

from mailsigil.cli.main import main

main()
