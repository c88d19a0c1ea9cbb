"""What acts on every bar and every fill: the trailing stop, the drawdown breaker, the guards."""
