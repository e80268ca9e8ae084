"""The milter: session, server (the only file that imports Milter) and how plans are applied."""
