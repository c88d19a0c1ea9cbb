"""What ``bt-risk demo`` runs and draws."""

from bt_risk.demo.runs import PAGE, DemoRun, cores, run

__all__ = ["PAGE", "DemoRun", "cores", "run"]
