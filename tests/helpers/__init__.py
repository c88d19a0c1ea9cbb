"""Hold what several test modules share: scenarios, brokers, exchanges and recorders."""
