"""What bt_risk costs and saves, measured: ``python -m benchmarks``."""

PARTS = ("speed", "growth", "rules", "decisions", "compare", "report", "peers")
