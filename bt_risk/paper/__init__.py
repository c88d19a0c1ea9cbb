"""A live run on loopback: an exchange, an example strategy and its status, by one command."""
