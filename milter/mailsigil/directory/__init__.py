"""Who is this sender, and which policy entries apply to them."""
