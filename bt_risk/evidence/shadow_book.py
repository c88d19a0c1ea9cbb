"""The shadow book: a ledger of the orders that were refused, cut, stopped out or closed.

It tells what each of them would have made or lost on paper. It does not tell what a rule is worth:
with that order filled, the strategy would have placed others (`bt_risk.evidence.attribution`). It
is worked out after the runs, from what they have recorded, so it cannot influence them. For one
data feed, three positions are replayed bar by bar: what the bare run held, what the protected run
held, and what the protected strategy *intended* to hold, which is the latter and all paper trades.

- A refused order, or the part that was cut from one, becomes a shadow order, and once it fills a
  paper trade of the rule that did it. It fills as the bare run's order of that bar did, else at the
  next open (a resting order where its price is reached), and carries the stop it was judged with,
  which trails like a real one.
- An order is not refused twice: while a paper trade is held, the same order requested again only
  raises it to the larger of the two. What the bare run buys on the same bar is no repetition: it
  adds to the position there, and so on paper. What the protected run buys later replaces it.
- A position that our stop has closed continues as a paper trade of the stop, one that the breaker
  has closed as a paper trade of the breaker, until the strategy's own exit or until the strategy
  has re-entered. So does a paper trade of another rule from its own stop on.
- The strategy's own exit is that of the bare run. Where the bare run held nothing on that side it
  is the strategy's next order against the paper trade, else the end of the data.

The difference of the two runs is then, to the cent, what the paper trades would have lost less what
they would have made, and three amounts that no single order explains (`DIFFERENCES`): what came of
the sizes that our sizer proposed in place of the strategy's (`SIZER_SIZES`), of sizes that grow and
shrink with an account that is larger or smaller (`COMPOUNDING`), and of all that the strategy did
otherwise since: other orders, at other times, or paid with cash that was free (`KNOCK_ON`). Where
one rule alone is on, it is the only cause, and these amounts are its own.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from bt_risk.evidence.counterfactual import Counterfactual, Fill
from bt_risk.evidence.metrics import final_equity
from bt_risk.evidence.order_log import OrderLog
from bt_risk.evidence.paper_broker import PaperBroker, RequestedOrder
from bt_risk.evidence.paper_cash import PaperCash
from bt_risk.evidence.paper_trade import Bar, PaperStop, PaperTrade
from bt_risk.evidence.variants import only_rule
from bt_risk.policy import Policy
from bt_risk.report.events import closings, halts
from bt_risk.report.labels import COMPOUNDING, DIFFERENCES, KNOCK_ON
from bt_risk.report.record import RunRecord
from bt_risk.rules.trailing_stop import atr

__all__ = ["ShadowBook", "shadow_book"]

Event = TypeVar("Event")

COLUMNS = [
    "data",
    "rule",
    "side",
    "units",
    "opened",
    "entry",
    "closed",
    "exit",
    "end",
    "pnl",
    "r_multiple",
]


TINY = 1e-6  # currency: the rounding of many sums
LEDGER = ["data", "rule", "paper_trades", "lost", "made", "knock_on", "balance", "balance_r"]


class ShadowBook:
    """The paper trades of one protected run, and how they add up.

    Attributes
    ----------
    difference : float
        Final equity of the protected run less that of the bare one, in currency.
    paper_trades : DataFrame
        One row for each: ``data, rule, side, units, opened, entry, closed, exit, end, pnl,
        r_multiple``; pnl is net, in currency: what the trade would have made. end tells what closed
        it: ``stop``, ``exit`` (the strategy's own), ``re-entered``, or ``end of data`` (marked at
        the last close).
    ledger : DataFrame
        By rule and data feed: ``paper_trades`` (how many), what they would have ``lost`` and
        ``made``, ``knock_on`` (`DIFFERENCES` where one rule alone is on), ``balance`` (lost less
        made, and knock-on; in currency), ``balance_r`` (lost less made in multiples of what each
        paper trade risked). The last rows are `DIFFERENCES`. ``balance`` sums to `difference`.
    """

    def __init__(self, difference: float, paper_trades: pd.DataFrame, ledger: pd.DataFrame) -> None:
        self.difference, self.paper_trades, self.ledger = difference, paper_trades, ledger

    def by_rule(self) -> pd.DataFrame:
        """Return `ledger` summed over the data feeds, in the same order."""
        frame = self.ledger.groupby("rule", sort=False).sum(numeric_only=True, min_count=1)
        return frame[LEDGER[2:]]

    @property
    def residual(self) -> float:
        """Currency of the difference that the ledger books to no rule: compounding and knock-on."""
        rows = self.ledger[self.ledger["rule"].isin([COMPOUNDING, KNOCK_ON])]
        return float(rows["balance"].sum())


def shadow_book(
    bare: RunRecord, protected: RunRecord, order_log: OrderLog, policy: Policy
) -> ShadowBook:
    """Follow what a policy took away.

    Parameters
    ----------
    bare, protected : bt_risk.report.RunRecord
        The same strategy on the same data feeds, without and with the policy.
    order_log : OrderLog
        The log of the protected run.
    policy : Policy

    Returns
    -------
    ShadowBook
    """
    rows, differences = [], []
    for name, replayed in _replayed(bare, protected, order_log, policy).items():
        multiplier = replayed.trading_costs.multiplier
        rows += [_row(name, trade, multiplier) for trade in replayed.paper_trades]
        differences += [(name, label, value) for label, value in replayed.differences.items()]
    paper_trades = pd.DataFrame(rows, columns=COLUMNS)
    before, after = final_equity(bare), final_equity(protected)
    difference = after - before
    explained = sum(value for *_, value in differences) - float(paper_trades["pnl"].sum())
    # What is neither price nor commission (interest, say) belongs to no data feed and no rule.
    if abs(difference - explained) > 1e-9 * max(abs(before), abs(after), 1.0):
        differences.append(("", KNOCK_ON, difference - explained))
    ledger = _ledger(paper_trades, differences, only_rule(policy))
    return ShadowBook(difference, paper_trades, ledger)


def _replayed(
    bare: RunRecord, protected: RunRecord, order_log: OrderLog, policy: Policy
) -> dict[str, Counterfactual]:
    """Replay all data feeds side by side, since one account pays for the paper trades of all."""
    cash, broker = PaperCash(order_log.cash), PaperBroker(**order_log.settings)
    replays = {}
    for name in protected.names:
        replays[name] = replay = _loaded(name, bare, protected, order_log, policy)
        replay.broker, replay.cash = broker, cash
    ordered = list(replays.values())
    cash.positions = [replay.positions for replay in ordered]
    steps = [(i, k) for i, one in enumerate(ordered) for k in range(len(one.bars))]
    times = pd.DatetimeIndex([bar.time for one in ordered for bar in one.bars])
    for step in times.argsort(kind="stable"):
        i, k = steps[step]
        ordered[i].step(k)
    for replay in ordered:
        replay.finish()
    return replays


def _loaded(
    name: str, bare: RunRecord, protected: RunRecord, order_log: OrderLog, policy: Policy
) -> Counterfactual:
    bars = _bars(order_log.bars[name], bare, name, policy)
    stops = protected.mode == "enforce" and policy.trailing_stop
    closed = [(begin, end, why.partition(":")[0]) for begin, end, why in halts(protected)]
    # A rule that ended the run answers for the rest of the data.
    ended_at = len(order_log.bars[name]) - 1 if protected.halted and closed else None
    trading_costs = order_log.trading_costs[name]
    stop_rule = _stop_rule(name, policy) if stops else None
    by_guards = [(*span, why.partition(":")[0]) for *span, why in closings(protected, name)]
    times = pd.DatetimeIndex([bar.time for bar in bars])
    counterfactual = Counterfactual(
        bars,
        trading_costs,
        stop_rule,
        [*by_guards, *closed],
        ended_at,
        growth=_growth(times, bare, protected),
    )
    counterfactual.load(
        _by_bar(times, _fills(bare, name)),
        _by_bar(times, _fills(protected, name)),
        _logged_by_bar(times, _requested_orders(order_log, name), shift=-1),
        _commission_rate([bare, protected], name, trading_costs.rate),
        _logged_by_bar(times, _order_ends(order_log, name)),
    )
    return counterfactual


def _growth(times: pd.DatetimeIndex, bare: RunRecord, protected: RunRecord) -> list[float]:
    """Return equity of the protected run divided by that of the bare one at these times."""
    usual, other = (_equity_at(times, record) for record in (bare, protected))
    known = (usual > 0) & (other > 0)
    ratios: list[float] = np.divide(other, usual, out=np.ones(len(times)), where=known).tolist()
    return ratios


def _equity_at(times: pd.DatetimeIndex, record: RunRecord) -> np.ndarray:
    """Return the last known equity at these times, that of the start before the first bar."""
    bars = record.bars[np.isfinite(record.bars["equity"]) & record.bars["time"].notna()]
    places = pd.DatetimeIndex(bars["time"]).searchsorted(times, side="right")
    return np.r_[record.start[0], bars["equity"].to_numpy()][places]


def _stop_rule(name: str, policy: Policy) -> PaperStop:
    facts = (policy.instruments or {}).get(name, {})
    return PaperStop(
        facts.get("atr_multiple", policy.atr_multiple),
        "close" if policy.anchor == "close" else "extreme",
        policy.buffer,
        policy.trigger,
        policy.min_step,
    )


def _bars(frame: pd.DataFrame, bare: RunRecord, name: str, policy: Policy) -> list[Bar]:
    """Return the bars of a data feed to its end, of which a halted run has not seen all."""
    ranges = atr(frame["high"], frame["low"], frame["close"], policy.atr_period)
    columns = [frame[name] for name in ("open", "high", "low", "close")]
    values = [column.tolist() for column in (*columns, ranges, frame["number"])]
    bars = [Bar(*row) for row in zip(frame.index, *values, strict=True)]
    last = frame.index[-1] if len(frame) else pd.Timestamp.min
    closes = bare.closes[name]
    # The protected run has no event there: closes are enough.
    rest = closes[closes.index > last]
    return bars + [Bar(time, c, c, c, c, math.nan) for time, c in rest.items()]


def _fills(record: RunRecord, name: str) -> list[tuple[pd.Timestamp, Fill]]:
    fills = record.fills[record.fills["name"] == name]
    return [
        (time, Fill(float(size), float(price), float(cost), bool(stop)))
        for time, size, price, cost, stop in zip(
            fills["time"],
            fills["size"],
            fills["price"],
            fills["commission"],
            fills["stop"],
            strict=True,
        )
    ]


def _requested_orders(
    order_log: OrderLog, name: str
) -> Iterator[tuple[pd.Timestamp, bool, RequestedOrder]]:
    """Yield the orders of a data feed with their time, and whether they belong to that bar."""
    rows = order_log.requested[order_log.requested["name"] == name]
    for time, at_bar, _, *values in rows.itertuples(index=False, name=None):
        yield time, at_bar, RequestedOrder(*values)


def _order_ends(order_log: OrderLog, name: str) -> Iterator[tuple[pd.Timestamp, bool, int]]:
    rows = order_log.ended[order_log.ended["name"] == name]
    for time, at_bar, _, number in rows.itertuples(index=False, name=None):
        yield time, at_bar, number


def _logged_by_bar(
    times: pd.DatetimeIndex, events: Iterable[tuple[pd.Timestamp, bool, Event]], shift: int = 0
) -> dict[int, list[Event]]:
    """Return logged events by bar: one logged at a bar counts in it, others in the next."""
    found: dict[int, list[Event]] = {}
    for time, at_bar, event in events:
        place = times.searchsorted(time, side="left" if at_bar else "right") + shift
        found.setdefault(int(place), []).append(event)
    return found


def _by_bar(
    times: pd.DatetimeIndex, events: Iterable[tuple[pd.Timestamp, Event]]
) -> dict[int, list[Event]]:
    """Return the events by the number of the bar that they belong to."""
    found: dict[int, list[Event]] = {}
    for time, event in events:
        found.setdefault(int(times.searchsorted(time)), []).append(event)
    return found


def _commission_rate(records: Sequence[RunRecord], name: str, usual: float) -> float:
    """Return the mean commission by notional of both runs, for the fills that neither run had."""
    parts = [record.fills[record.fills["name"] == name] for record in records]
    fills = pd.concat([part for part in parts if len(part)] or parts[:1])  # types of columns stay
    notional = (fills["size"].abs() * fills["price"] * fills["multiplier"]).sum()
    return float(fills["commission"].sum() / notional) if notional > 0 else usual


def _row(name: str, trade: PaperTrade, multiplier: float) -> tuple[object, ...]:
    risk = trade.distance * trade.peak * multiplier
    r_multiple = trade.pnl / risk if risk > 0 else math.nan
    entry = trade.rule, trade.side, trade.peak, trade.opened, trade.entry
    return (name, *entry, trade.closed, trade.exit, trade.end, trade.pnl, r_multiple)


def _ledger(
    paper_trades: pd.DataFrame, differences: Sequence[tuple[str, str, float]], only: str | None
) -> pd.DataFrame:
    """Return what the orders of each rule would have lost and made by data feed, and the rest.

    `only` is the one rule that is on: what no order of it explains is its own all the same.
    """
    knock_on: dict[tuple[str, str], float] = {}
    if only is not None:
        for name, _, value in differences:
            knock_on[only, name] = knock_on.get((only, name), 0.0) + value
        differences = [(name, label, 0.0) for name, label, _ in differences]
    groups = dict(list(paper_trades.groupby(["rule", "data"], sort=True)))
    rows = []
    booked = {key for key, value in knock_on.items() if abs(value) > TINY}
    for rule, name in sorted(booked.union(groups)):
        trades = groups.get((rule, name), paper_trades[:0])
        pnl, r, more = trades["pnl"], trades["r_multiple"], knock_on.get((rule, name), 0.0)
        lost, made = float(-pnl[pnl < 0].sum()), float(pnl[pnl > 0].sum())
        in_r = -r.sum() if r.notna().any() else math.nan
        rows.append((name, rule, len(trades), lost, made, more, lost - made + more, in_r))
    for name, label, value in sorted(differences, key=lambda one: DIFFERENCES.index(one[1])):
        rows.append((name, label, 0, math.nan, math.nan, math.nan, value, math.nan))
    frame = pd.DataFrame(rows, columns=LEDGER)
    return frame.astype({"paper_trades": int, **dict.fromkeys(LEDGER[3:], np.float64)})
