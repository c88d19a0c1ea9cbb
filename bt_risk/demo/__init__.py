"""What ``bt-risk demo`` runs and draws."""

from bt_risk.demo.runs import PAGE, Run, cores, run

__all__ = ["PAGE", "Run", "cores", "run"]
