"""What several tests share: scenarios, brokers, exchanges, recorders."""
