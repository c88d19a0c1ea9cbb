"""Real prices that bt_risk carries; read them with ``bt_risk.load_data``."""
