"""The gate in front of the broker, and the way of an order through it."""
