"""The world of one run: its feeds, its limits, and what is done on which bar."""

from dataclasses import dataclass
from typing import NamedTuple

CASH = 100_000.0


class Action(NamedTuple):
    """What one trader does at the close of one bar; `args` are those of ``Trader.do_<verb>``.

    `at_open`: at its open instead, where the engine lets strategies cheat.
    """

    bar: int
    who: int
    verb: str
    data: int
    args: tuple = ()
    at_open: bool = False


class Breach(NamedTuple):
    """A promise that was not kept: which, when, and what was seen."""

    promise: str
    bar: int
    seen: str


class Feed(NamedTuple):
    """One data feed: where it starts and ends (fractions of the run), its holes and its nature.

    `bad` is the share of bars that cannot be true. `scheme`: how its commission scheme values a
    point, "" as its `mult` says, "points" by ``profitandloss`` alone, "converts" by the price.
    `spread`: prices wander around zero.
    """

    start: float = 0.0
    end: float = 1.0
    gaps: float = 0.0
    nans: float = 0.0
    volatility: float = 0.02
    beta: float = 0.0
    margin: float = 0.0
    mult: float = 1.0
    bad: float = 0.0
    scheme: str = ""
    spread: bool = False


@dataclass(frozen=True)
class World:
    """Everything that a run depends on.

    `limits` are the fields of `bt_risk.Policy` that differ from `POLICY`. `parts` are the
    components that are added one by one; empty: ``protect``. `coc`: market orders fill at the close
    they were placed on. `own_parts`: strategies on one broker keep count of what they hold, each of
    its own. `signals`: how many days one counts, and ``(time, score)`` of those for the first feed.
    """

    seed: int
    bars: int = 60
    feeds: tuple = (Feed(),)
    traders: int = 1
    parts: tuple = ()
    limits: tuple = ()
    cash: float = CASH
    commission: float = 0.0
    slippage: float = 0.0
    filler: float = 0.0
    coc: bool = False
    own_parts: bool = False
    engine: tuple = ()
    signals: tuple = ()
    actions: tuple = ()

    @property
    def policy(self):
        """The limits by name."""
        return POLICY | dict(self.limits)


# Short windows, so that there is something to judge within a run of 70 bars.
POLICY = {
    "risk_limit": 0.01,
    "notional_limit": 1.0,
    "exposure_limit": 0.05,
    "exposure_unit": "risk",
    "gross_limit": None,
    "net_limit": None,
    "position_limit": None,
    "groups": None,
    "group_limit": None,
    "volatility_limit": None,
    "gap_limit": None,
    "gap_floor": 0.0,
    "correlation_limit": 0.7,
    "correlation_estimator": "rolling",
    "halflife": None,
    "multi_bar": 1,
    "downside": False,
    "hysteresis": 0.0,
    "window": 20,
    "min_periods": 8,
    "drawdown_limit": 0.10,
    "drawdown_trigger": "close",
    "action": "stop",
    "flatten": True,
    "cooldown_bars": None,
    "atr_period": 5,
    "atr_multiple": 2.0,
    "anchor": "close",
    "min_trades": 5,
    "lookback": 20,
    "guards": (),
}
COMPONENTS = ("cap", "stop", "breaker", "sizer")
