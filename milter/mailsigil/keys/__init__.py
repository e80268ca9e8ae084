"""The key agent, its client, its sources, and the embedded certification authority."""
