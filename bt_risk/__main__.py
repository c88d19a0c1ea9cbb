"""``python -m bt_risk`` is ``bt-risk``."""

from bt_risk.cli.app import main

if __name__ == "__main__":
    main()
