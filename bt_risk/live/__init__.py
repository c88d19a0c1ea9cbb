"""What a real broker needs beyond a simulated one: send once, check equity and feeds, shut down."""
