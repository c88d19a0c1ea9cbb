"""What bt_risk costs and saves, measured: ``python -m benchmarks``."""
