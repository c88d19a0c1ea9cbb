"""Orders of one bar in a backtest: which of them BackBroker executes first, and which it cannot."""

from helpers import scenarios as feeds
from helpers.recording import breaker_out_of_reach, ends, fills, play
from helpers.scenarios import bars, cerebro, flat

import bt_risk


def test_a_close_of_one_strategy_goes_before_the_stop_of_the_other():
    """close() sells what both hold, at the open of 97: nothing is left for the stop at 95."""
    engine = cerebro(bars(*flat(18), (97, 98, 90, 92), (92, 93, 91, 92)))
    engine.addobserver(bt_risk.ATRTrailingStop, atr_multiple=2.5)
    engine.addstrategy(feeds.Script, actions={15: lambda s: s.buy(size=10)})
    engine.addstrategy(feeds.Script, actions={15: lambda s: s.buy(size=5), 18: lambda s: s.close()})
    first, second = engine.run()
    assert fills(first) == [(16, 10, 100.0)]
    assert fills(second) == [(16, 5, 100.0), (19, -15, 97.0)]


def test_an_unaffordable_entry_ends_margin_although_the_next_open_is_cheap():
    engine = cerebro(bars(*flat(3), *flat(3, price=90.0)))
    breaker_out_of_reach(engine)
    strategy = play(engine, {3: lambda s: (s.buy(size=1001), s.buy(size=1))})
    assert [end[0] for end in ends(strategy)] == ["Margin", "Margin"]
