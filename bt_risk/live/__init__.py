"""Live trading behind a real broker: send once, check equity and feeds, shut down in order."""
