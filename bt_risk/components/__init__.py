"""The Backtrader objects that a user adds: sizers, observers, analyzers and brokers."""
