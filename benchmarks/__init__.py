"""What bt_risk costs and saves, measured: ``python -m benchmarks``."""

PARTS = ("speed", "growth", "rules", "decisions", "compare", "sweep", "report", "peers")
