"""Monitors, which act on every bar and fill: trailing stop, drawdown breaker, guards."""
