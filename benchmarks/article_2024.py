"""The article's strategy on bitcoin in 2024, hour by hour, bare and protected: what each rule did.

It is not part of the product's data: BT_RISK_SHARED_DATA names the folder that holds
``crypto_1h_2024``, else ``../shared/data`` beside the repository is looked at. Nothing is tuned.

    python -m benchmarks article_2024
"""

import argparse
import functools
import os
import sys
from pathlib import Path

import backtrader as bt
from rich.console import Console

import bt_risk
from bt_risk.cli.tables import print_comparison
from bt_risk.demo.portfolios import COIN, FractionSizer, MeanReversion
from bt_risk.evidence.compare import evaluate
from bt_risk.evidence.runner import run_variant
from bt_risk.evidence.variants import BARE, PROTECTED, without
from bt_risk.feeds.frame import FrameData

ROOT = Path(__file__).resolve().parent.parent
FILE = Path("crypto_1h_2024") / "BTCUSDT_1h_2024.csv.gz"
CASH, SIDE = 100_000.0, 0.001
POLICY = bt_risk.Policy(action="pause", cooldown_bars=60, instruments={"BTC": COIN})


def prices():
    """Return the prices of 2024, None where the file is not there."""
    folder = Path(os.environ.get("BT_RISK_SHARED_DATA", ROOT.parent / "shared" / "data"))
    return bt_risk.read_prices(folder / FILE) if (folder / FILE).exists() else None


def build(frame, commission, sized):
    """Return a Cerebro; `sized` puts 95 % of equity into each position."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(FrameData(dataname=frame), name="BTC")
    cerebro.addstrategy(MeanReversion)
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(commission)
    if sized:
        cerebro.addsizer(FractionSizer, fraction=0.95, step=COIN["step"])
    return cerebro


def compared(frame, commission):
    """Return the comparison; without a policy of ours the strategy has a sizer of its own."""
    ours = functools.partial(build, frame, commission, sized=False)
    policies = {PROTECTED: POLICY}
    policies |= {f"no {rule}": without(POLICY, rule) for rule in ("stop", "drawdown")}
    runs = {BARE: run_variant(functools.partial(build, frame, commission, sized=True), None)}
    runs |= {label: run_variant(ours, policy) for label, policy in policies.items()}
    return evaluate(runs, POLICY)


def main(arguments=None):
    """Print the comparison with 0.1 % a side and without costs."""
    about = __doc__.partition("\n")[0]
    parser = argparse.ArgumentParser("python -m benchmarks article_2024", description=about)
    parser.parse_args(arguments)
    frame = prices()
    if frame is None:
        sys.exit(f"{FILE} is not there: BT_RISK_SHARED_DATA names the folder that holds it.")
    console = Console(highlight=False)
    for commission in (SIDE, 0.0):
        console.rule(f"BTC 2024, {100 * commission:g} % a side", align="left", characters="-")
        print_comparison(console, compared(frame, commission))
        console.print()
