"""Days and hours: when nothing may open, and when what is held must leave (9).

Bars are days. A guard acts at the close of a bar: an order of that moment belongs to the day that
has just closed.
"""

import math

import backtrader as bt

import bt_risk
from promises.safety.book import EPS
from promises.safety.inside import Inside

SLACK = 1e-9
THURSDAY, SATURDAY = 3, 5


class Days(Inside):
    """Predict the days that a loss ends, and the days outside trading hours."""

    def no_days(self):
        """Begin before the first day."""
        self.day_is_over, self.value_before = "", math.nan
        # An order at the open belongs to a bar that has not closed.
        self.knows_hours = not self.at_open
        feeds = self.world.feeds
        believed = not any(f.nans or f.bad or f.spread or f.scheme == "converts" for f in feeds)
        self.knows_days = believed and self.knows_hours

    def _check_days(self):
        """Find out what this close ends, and see that what is held leaves where it must."""
        self.day_is_over = ""
        for guard in self.guards:
            if isinstance(guard, bt_risk.DailyLossLimit) and self.knows_days:
                self._check_loss(guard)
            elif isinstance(guard, bt_risk.TradingHours) and self.knows_hours:
                self._check_hours(guard)
        self.value_before = self.tape.fundvalue

    def _check_loss(self, guard):
        """Every bar is a day of its own: it has lost what the account fell since the last close."""
        if guard.scope != "all":
            return
        value, equity = self.tape.fundvalue, self.tape.getvalue()
        if guard.trigger == "intrabar" and equity > 0:
            value *= 1.0 + self.worst_inside()[0] / equity
        lost = 1.0 - value / self.value_before
        if lost >= guard.daily_loss_limit + SLACK:
            self._end_day(f"a loss of {lost:g} in a day", guard.flatten)

    def _check_hours(self, guard):
        """Mon-Fri: of flat_before a day is so long that Wednesday is the last to hold anything."""
        times = [
            table[len(d) - 1, 0] for d, table in zip(self.datas, self.tables, strict=True) if len(d)
        ]
        weekday = bt.num2date(max(times)).weekday()
        flat = guard.flat_before is not None
        if weekday >= (THURSDAY if flat else SATURDAY):
            self._end_day(f"trading hours, weekday {weekday}", flat)

    def _end_day(self, why, leaves):
        self.day_is_over = why
        for (index, who), share in self.shares.items():
            leaving = any(o.owner.who == who for o in self.own_alive(index, "market"))
            if leaves and abs(share.size) > EPS and not leaving:
                self.breach("9 nothing closes a position", f"{share.size:g} after {why}")

    def held_off_today(self):
        """Return why nothing may open after this close, or nothing."""
        return f"9 entry accepted after {self.day_is_over}" if self.day_is_over else ""
