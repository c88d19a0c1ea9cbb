"""The shadow book: what was refused, cut, stopped out or closed goes on, on paper.

It is worked out after the runs, from what they have written down, so it cannot influence them.
For one data, three positions are walked bar by bar: what the bare run held, what the protected
run held, and what the protected strategy *meant* to hold, which is the latter and all papers.

- A refused order, or the part that was cut from one, becomes a paper of the rule that did it. It
  fills as the bare run's order of that bar did, else at the next open (a resting order where its
  price is reached), and carries the stop it was judged with, which trails like a real one.
- An order is not refused twice: while a paper is held, the same wish again only raises it to the
  larger of the two, and what comes in after all takes its place.
- A position that our stop has closed goes on as a paper of the stop, one that the breaker has
  closed as a paper of the breaker, until the strategy's own exit or until it is in again. So does
  a paper of another rule from its own stop on.
- The strategy's own exit is that of the bare run. Where the bare run held nothing on that side it
  is the strategy's next order against the paper, else the end of the data.

The difference of the two runs is then, to the cent, what the papers missed and were spared, what
came of holding more or fewer units on the same side (`SIZES`), and the residual (`OTHER`): what was
earned while the strategy meant to hold another side than the bare strategy held, or none. Those
are the orders that it would have placed differently.
"""

import math

import numpy as np
import pandas as pd

from bt_risk.evidence.counterfactual import (
    OTHER,
    SIZES,
    Counterfactual,
    Fill,
)
from bt_risk.evidence.paper_broker import PaperBroker, RequestedOrder
from bt_risk.evidence.paper_cash import PaperCash
from bt_risk.evidence.paper_trade import Bar, PaperStop
from bt_risk.report.events import halts
from bt_risk.rules.trailing_stop import atr

__all__ = ["OTHER", "SIZES", "ShadowBook", "shadow_book"]

PAPERS = [
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


class ShadowBook:
    """The papers of one protected run, and how they add up.

    Attributes
    ----------
    difference : float
        Final equity of the protected run less that of the bare one, in currency.
    papers : DataFrame
        One row for each: ``data, rule, side, units, opened, entry, closed, exit, end, pnl,
        r_multiple``; pnl is net, in currency, and what the rule *missed*: negative is a loss saved.
        end says how it closed: ``stop``, ``exit`` (the strategy's own), ``in again``, or ``data``
        (marked at the last close).
    effects : DataFrame
        By rule and data: ``papers`` (how many), ``saved``, ``missed``, ``effect`` (saved less
        missed, in currency), ``effect_r`` (the same in multiples of what each paper risked). The
        last rows are `SIZES` and `OTHER`, the residual. ``effect`` sums to `difference`.
    """

    def __init__(self, difference, papers, effects):
        self.difference, self.papers, self.effects = difference, papers, effects

    def by_rule(self):
        """Return `effects` summed over the datas, in the same order."""
        frame = self.effects.groupby("rule", sort=False).sum(numeric_only=True, min_count=1)
        return frame[["papers", "saved", "missed", "effect", "effect_r"]]

    @property
    def residual(self):
        """Currency of the difference that no rule explains."""
        rows = self.effects[self.effects["rule"] == OTHER]
        return float(rows["effect"].sum())


def shadow_book(bare, protected, tape, policy):
    """Follow what a policy took away.

    Parameters
    ----------
    bare, protected : bt_risk.report.Record
        The same strategy on the same data, without and with the policy.
    tape : Tape
        That of the protected run.
    policy : Policy

    Returns
    -------
    ShadowBook
    """
    papers, effects = [], []
    for name, walk in _walked(bare, protected, tape, policy).items():
        papers += [_row(name, paper, walk.terms.multiplier) for paper in walk.papers]
        effects += [(name, label, effect) for label, effect in walk.rest.items()]
    frame = pd.DataFrame(papers, columns=PAPERS)
    difference = _final(protected) - _final(bare)
    summed = _effects(frame, effects)
    # What is no price and no commission (interest, say) belongs to no data and no rule.
    unexplained = difference - summed["effect"].sum()
    if abs(unexplained) > 1e-9 * max(abs(_final(bare)), abs(_final(protected)), 1.0):
        summed.loc[len(summed)] = ["", OTHER, 0, math.nan, math.nan, unexplained, math.nan]
    return ShadowBook(difference, frame, summed)


def _final(record):
    return float(record.bars["equity"].ffill().iloc[-1])


def _walked(bare, protected, tape, policy):
    """Walk all datas side by side, since one account pays for the papers of all."""
    account, venue = PaperCash(tape.cash), PaperBroker(**tape.settings)
    walks = {}
    for name in protected.names:
        walks[name] = walk = _loaded(name, bare, protected, tape, policy)
        walk.venue, walk.account = venue, account
    account.walks = list(walks.values())
    steps = [(bar.time, i, k) for i, w in enumerate(account.walks) for k, bar in enumerate(w.bars)]
    for _, i, k in sorted(steps):
        account.walks[i].step(k)
    for walk in account.walks:
        walk.finish()
    return walks


def _loaded(name, bare, protected, tape, policy):
    bars = _bars(tape.bars[name], bare, protected, name, policy)
    facts = (policy.instruments or {}).get(name, {})
    stops = protected.mode == "enforce" and policy.trailing_stop
    rule = PaperStop(
        facts.get("atr_multiple", policy.atr_multiple),
        "close" if policy.anchor == "close" else "extreme",
        policy.buffer,
        policy.trigger,
        policy.min_step,
    )
    closed = [(begin, end) for begin, end, _ in halts(protected)]
    # A breaker that ended the run has the rest of the data on its account.
    ended = len(tape.bars[name]) - 1 if protected.halted and closed else None
    terms = tape.terms[name]
    walk = Counterfactual(bars, terms, rule if stops else None, closed, ended)
    times = pd.DatetimeIndex([bar.time for bar in bars])
    asked, over = (frame[frame["name"] == name] for frame in (tape.asked, tape.ended))
    walk.load(
        _by_bar(times, _fills(bare, name)),
        _by_bar(times, _fills(protected, name)),
        _said(times, ((row[:2], RequestedOrder(*row[3:])) for row in _rows(asked)), -1),
        _rate([bare, protected], name, terms.rate),
        _said(times, ((row[:2], row[3]) for row in _rows(over))),
    )
    return walk


def _bars(frame, bare, protected, name, policy):
    """Return the bars of a data, to its end: a run that was stopped has not seen all of them."""
    ranges = atr(frame["high"], frame["low"], frame["close"], policy.atr_period)
    columns = [frame[name] for name in ("open", "high", "low", "close")]
    rows = zip(frame.index, *columns, ranges, frame["number"], strict=True)
    bars = [Bar(time, *map(float, values)) for time, *values in rows]
    last = frame.index[-1] if len(frame) else pd.Timestamp.min
    closes = bare.closes[name]
    # Nothing of the protected run happens there: closes will do.
    rest = closes[closes.index > last]
    return bars + [Bar(time, c, c, c, c, math.nan) for time, c in rest.items()]


def _fills(record, name):
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


def _rows(frame):
    return frame.itertuples(index=False, name=None)


def _said(times, events, shift=0):
    """Return what orders have to say by bar: said in a bar it counts in it, else in the next."""
    found = {}
    for (time, at_bar), event in events:
        place = times.searchsorted(time, side="left" if at_bar else "right") + shift
        found.setdefault(int(place), []).append(event)
    return found


def _by_bar(times, events):
    """Return the events by the number of the bar that they belong to."""
    found = {}
    for time, event in events:
        found.setdefault(int(times.searchsorted(time)), []).append(event)
    return found


def _rate(records, name, usual):
    """Return the mean commission on a currency of notional: what a paper pays for a fill."""
    fills = pd.concat([record.fills[record.fills["name"] == name] for record in records])
    notional = (fills["size"].abs() * fills["price"] * fills["multiplier"]).sum()
    return float(fills["commission"].sum() / notional) if notional > 0 else usual


def _row(name, paper, multiplier):
    risk = paper.distance * paper.peak * multiplier
    r = paper.pnl / risk if risk > 0 else math.nan
    whole = paper.rule, paper.side, paper.peak, paper.opened, paper.entry
    return (name, *whole, paper.closed, paper.exit, paper.end, paper.pnl, r)


def _effects(papers, rest):
    rows = []
    for (rule, name), group in papers.groupby(["rule", "data"], sort=True):
        pnl, r = group["pnl"], group["r_multiple"]
        saved, missed = -pnl[pnl < 0].sum(), pnl[pnl > 0].sum()
        in_r = -r.sum() if r.notna().any() else math.nan
        rows.append((name, rule, len(group), saved, missed, saved - missed, in_r))
    rest = sorted(rest, key=lambda one: [SIZES, OTHER].index(one[1]))
    rows += [(name, label, 0, math.nan, math.nan, value, math.nan) for name, label, value in rest]
    columns = ["data", "rule", "papers", "saved", "missed", "effect", "effect_r"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"papers": int, **dict.fromkeys(columns[3:], np.float64)})
