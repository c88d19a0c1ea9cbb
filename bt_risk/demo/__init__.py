"""The runs and pictures of ``bt-risk demo``."""

from bt_risk.demo.runs import PAGE, DemoRun, cores, run

__all__ = ["PAGE", "DemoRun", "cores", "run"]
