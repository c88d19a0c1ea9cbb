"""The runs and pictures of ``bt-risk demo``."""

from bt_risk.demo.runs import PAGES, DemoRun, cores, run

__all__ = ["PAGES", "DemoRun", "cores", "run"]
