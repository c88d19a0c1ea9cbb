"""How a run goes on where an earlier one ended, whatever ended it.

What was kept says where each rule stood; the `Reconciler` compares it with what the broker
says of orders and positions.
"""

from bt_risk.orders import REDUCING
from bt_risk.portfolio.position import EPS
from bt_risk.state.reconciler import Reconciler
from bt_risk.state.records import (
    restore_part,
    restored_trade,
    sent_again,
    shifted,
)

__all__ = ["Recovery"]


class Recovery(Reconciler):
    """The recorder of one `RiskBroker`, which begins with what an earlier run has left."""

    def __init__(self, gate, path):
        super().__init__(gate, path)
        self._resumed = set()
        nothing = {"rounds": 0, "datas": [], "latched": []}
        self._kept_run = self.file.kept.records.get(("run", "bars"), nothing)

    # -- the first round -------------------------------------------------------------------------

    def begin_round(self):
        """Begin, once the strategies are there; then answer what an operator asks for."""
        if not self.begun:
            if not self.gate.cerebro.runningstrats:
                return
            self._begin()
        if self.closes is None:
            self._restore_windows()
        for number, verb in self.file.requests():
            if number not in self._answered:
                self._answered.append(number)
                self._answer(verb)

    def _begin(self):
        gate, kept = self.gate, self.file.kept
        self._restore_trades()
        for instrument in gate.book.instruments:
            record = kept.records.get(("instrument", instrument.name))
            if record is not None:
                instrument.restore(record)
        self._restore_positions()
        self._restore_look_back()
        self.closes = None
        self._find_orders()
        self._restore_hooks()
        self.begun = True
        gate.trading_state.restore(kept.of("gate"))
        self._say_what_was_lost()
        gate.process_notifications()  # fills that the broker reports of the time in between

    def _restore_trades(self):
        book, kept = self.gate.book, self.file.kept
        rounds = self._kept_run["rounds"]
        indices = {i.name: i.lead.index for i in book.instruments}
        for record in kept.trades.values():
            name = record["instrument"]
            bars = kept.records.get(("instrument", name), {}).get("bars", 0)
            owner = self._owner(record["owner"])
            book.trades.append(restored_trade(record, owner, indices.get(name, -1), rounds, bars))
        self._trades = len(book.trades)

    def _restore_positions(self):
        for record in self.file.kept.of("position").values():
            instrument = self._instrument(record["data"])
            if instrument is not None:
                part = self.gate.book.part(instrument, self._owner(record["owner"]))
                restore_part(part, record)
            elif record["size"]:
                reason = f"state: {record['size']:g} {record['data']} are held: it has no data here"
                self._note(record["data"], "unprotected", reason)

    def _instrument(self, name):
        return next((i for i in self.gate.book.instruments if i.name == name), None)

    def _restore_look_back(self):
        book, kept = self.gate.book, self.file.kept
        rounds = self._kept_run["rounds"]
        for key in sorted(kept.of("sent")) if book.sent is not None else ():
            record = kept.records["sent", key]
            instrument = self._instrument(record["data"])
            if instrument is not None:
                bars = kept.records["instrument", instrument.name]["bars"]
                book.sent.append(sent_again(record, instrument, rounds, bars))
        if self._kept_run["datas"] == [i.name for i in book.instruments]:
            book.curve.restore([kept.of("mark")[key] for key in sorted(kept.of("mark"))])
            for place, one, other, side in self._kept_run["latched"]:
                if place < len(self.gate.registry.limits):
                    pair = frozenset((one, other))
                    book.latched.add((id(self.gate.registry.limits[place]), pair, side))

    def _restore_windows(self):
        """Fill the windows of closes, once the first bar says that no bar is missing since."""
        come = [i for i in self.gate.book.instruments if i.close.lencount > i.length]
        if not come:
            return
        self.closes = {}
        if any(_misses_bars(instrument) for instrument in come):
            reason = "state: bars are missing since the last run: correlations begin anew"
            self._note("", "note", reason)
            return
        rows = {float(key): row for key, row in self.file.kept.of("close").items()}
        self.closes = dict(sorted(rows.items()))
        if self.closes:
            self.gate.book.windows.replay(self.closes.items())

    def _restore_hooks(self):
        numbers = {}
        for hook in self.gate.registry.monitors:
            kind = hook.state_kind
            if kind:
                number = numbers[kind] = numbers.get(kind, -1) + 1
                prefix = f"{number}:"
                records = self.file.kept.of(kind)
                hook.restore(
                    {k[len(prefix) :]: v for k, v in records.items() if k.startswith(prefix)}
                )
        for place, strategy in enumerate(self.gate.cerebro.runningstrats):
            record = self.file.kept.records.get(("sizer", str(place)))
            if record is not None and hasattr(strategy.getsizer(), "restore"):
                strategy.getsizer().restore(record)

    def _say_what_was_lost(self):
        """Fail closed where there should have been a state: nobody knows what it would forbid."""
        if not self.file.lost:
            return
        held = [i.name for i in self.gate.book.instruments if self._held(i)]
        if held or "damaged" in self.file.lost:
            open_ = f" while {', '.join(held)} is held" if held else ""
            reason = (
                f"state: {self.file.lost}{open_}: no entries until `bt-risk rearm {self.file.path}`"
            )
            self.gate.trading_state.set("state", REDUCING, reason)

    def _held(self, instrument):
        position = self.gate.venue.position(instrument.data)
        return position is not None and abs(position.size) > EPS

    # -- bars ------------------------------------------------------------------------------------

    def news(self, fresh, news):
        """Return those of `news` whose bar is new, and not one that a feed repeats."""
        self.closed([one for one in fresh if not one.repeats])
        news = [one for one in news if not one.repeats]
        for instrument in news:
            if instrument.index not in self._resumed:
                self._count_from(instrument)
        return news

    def _count_from(self, instrument):
        """Count the bars since what was before this run from the first new bar on."""
        book, first = self.gate.book, not self._resumed
        self._resumed.add(instrument.index)
        bars = instrument.length - 1 if instrument.lead is instrument else 0
        rounds = book.rounds - 1 if first else 0
        for events in (book.trades, book.sent or []):
            for place, event in enumerate(events):
                own = bars if event.index == instrument.index else 0
                events[place] = shifted(event, own, rounds)

    # -- the operator ----------------------------------------------------------------------------

    def _answer(self, verb):
        if verb != "rearm":
            self._note("", "note", f"state: a request for {verb!r} is not known here")
            return
        self.gate.trading_state.rearm()
        for hook in self.gate.registry.monitors:
            if hook.final:
                self._note("", "note", "state: the lifetime limit of a breaker cannot be re-armed")
            else:
                hook.rearm()


def _misses_bars(instrument):
    since = instrument.datetime[0] - instrument.known_until
    return instrument.repeats and since > 2.0 * instrument.longest_gap > 0.0
