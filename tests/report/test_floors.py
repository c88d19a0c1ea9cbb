"""The loss floors of a run in its report, and the same run by both loops."""

import backtrader as bt
import numpy as np
import pytest
from helpers.frames import PandasData
from helpers.recording import play
from helpers.scenarios import bars, cerebro, flat

import bt_risk
from bt_risk.report.events import halts
from bt_risk.report.floors import floor_lines, floors_used
from bt_risk.report.limit_use import limit_uses
from bt_risk.report.record import record_of

OFF = dict(risk_limit=None, exposure_limit=None, drawdown_limit=None, trailing_stop=False)
# 500 bought at 100 on bar 4: 97,500 on bar 6, 89,500 on bar 7, closed on bar 8.
FALL = [*flat(5, width=0.2), (100, 100, 95, 95), (95, 95, 79, 79), *flat(4, price=79.0)]


def reported(floor, page=None, **options):
    engine = cerebro(bars(*FALL))
    engine.addanalyzer(bt_risk.ReportData)
    guards = [floor]
    bt_risk.protect(engine, guards=guards, sizer=False, report=page, **OFF, **options)
    return play(engine, {3: lambda s: s.buy(size=500)})


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("action", ["stop", "pause"])
def test_the_page_of_a_run_with_a_floor_shows_how_much_of_it_was_used(tmp_path, action, fast):
    floor = bt_risk.AccountFloor(0.10, action=action)
    strategy = reported(floor, tmp_path / "page.html", fast=fast)
    record = record_of(strategy)
    (line,) = floor_lines(record)
    assert set(line.dropna()) == {90_000}
    assert floors_used(record).round(4).tolist()[4:7] == [0.0, 0.25, 1.05]
    (use,) = [use for use in limit_uses(record, None) if use.rule == "AccountFloor"]
    assert use.most == pytest.approx(1.05)
    ((_, _, reason),) = halts(record)
    assert reason == "AccountFloor: equity 89,500.00 <= the floor 90,000.00"
    assert len(strategy) == (8 if action == "stop" else len(FALL))
    assert "account floor" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_run_without_a_floor_has_no_line():
    engine = cerebro(bars(*FALL))
    engine.addanalyzer(bt_risk.ReportData)
    record = record_of(play(engine, {}))
    assert record.floors == []
    assert floor_lines(record) == []


def test_the_nearest_of_two_floors_counts():
    floor = bt_risk.AccountFloor(0.20, daily=0.12, reference="equity", reset="00:00 UTC")
    record = record_of(reported(floor))
    assert np.nanmax(floor_lines(record)[0]) == 88_000


@pytest.mark.parametrize("cheat", ["cheat_on_open", "coc"])
def test_a_floor_closes_everything_where_orders_fill_early(cheat):
    class Early(bt.Strategy):
        def next_open(self):
            self.trade()

        def next(self):
            if cheat == "coc":
                self.trade()

        def trade(self):
            if len(self) == 4:
                self.buy(size=500)

    engine = cerebro(bars(*FALL), **({"cheat_on_open": True} if cheat != "coc" else {}))
    if cheat == "coc":
        engine.broker.set_coc(True)
    engine.adddata(PandasData(dataname=bars(*FALL)), name="other")
    engine.addstrategy(Early)
    bt_risk.protect(engine, guards=[bt_risk.AccountFloor(0.10)], sizer=False, **OFF)
    (strategy,) = engine.run()
    assert strategy.position.size == 0
    assert len(strategy) == 8
