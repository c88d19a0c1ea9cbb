"""Recovery: restore the saved state at the begin of a run, and answer an operator's requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bt_risk.errors import ParameterError
from bt_risk.orders import REDUCING
from bt_risk.portfolio.instrument import Instrument
from bt_risk.state.file import Record, StateFile
from bt_risk.state.heartbeat import Heartbeat
from bt_risk.state.inbox import Inbox
from bt_risk.state.protocols import Gate
from bt_risk.state.reconciler import Reconciler
from bt_risk.state.recorder import StateRecorder
from bt_risk.state.records import restore_part, restored_sent, restored_trade, shifted
from bt_risk.state.start_report import StartReport
from bt_risk.tolerances import SIZE_EPS

__all__ = ["Recovery"]

_NO_RUN = {"rounds": 0, "datas": [], "latched": []}


class Recovery:
    """The state of one `RiskBroker`, from the begin of a run to its end.

    Attributes
    ----------
    active : bool
        Whether there is a state file: False for `NoState`.
    file : StateFile
    recorder : StateRecorder
        Writes the state while the run lasts.
    reconciler : Reconciler
        Compares the saved orders and positions with the broker's.
    """

    active = True

    def __init__(self, gate: Gate, path: Path) -> None:
        self._check_names(gate)
        self.gate, self.file = gate, StateFile(path)
        self.saved = self.file.saved
        self.recorder = StateRecorder(self.file, gate)
        self.reconciler = Reconciler(gate, self.saved, self.recorder)
        self.heartbeat = Heartbeat(gate, self.saved.records.get(("run", "heartbeat")))
        self.recorder.heartbeat = self.heartbeat
        self.inbox = Inbox(gate, self.file, self.recorder)
        self.start = StartReport(gate, self.file, self.reconciler)
        self._counted: set[int] = set()
        self._last_run = self.saved.records.get(("run", "bars"), _NO_RUN)

    @staticmethod
    def _check_names(gate: Gate) -> None:
        """Raise where two data feeds have one name: the file has one record for a name."""
        names = [instrument.name for instrument in gate.book.instruments]
        if len(set(names)) < len(names):
            raise ParameterError(
                type(gate).__name__,
                "state",
                "used with data feeds of different names",
                names,
                "Name them as in cerebro.adddata(data, name='BTC hourly').",
            )

    def close(self) -> None:
        """Leave one whole file behind, and release it for other processes."""
        self.file.close()

    # -- the first round -------------------------------------------------------------------------

    def begin_round(self) -> None:
        """Restore the state once the strategies exist; then answer an operator's requests."""
        if not self.recorder.begun:
            if not self.gate.cerebro.runningstrats:
                return
            self._begin()
        elif self.reconciler.unlisted.waits:
            self.reconciler.unlisted.check()
        self.heartbeat.beat()
        if not self.recorder.closes.decided:
            self._restore_closes()
        self.inbox.check()
        if not self.start.done:
            self.start.check()

    def _begin(self) -> None:
        gate, saved = self.gate, self.saved
        self._restore_trades()
        for instrument in gate.book.instruments:
            record = saved.records.get(("instrument", instrument.name))
            if record is not None:
                instrument.restore(record)
        self._restore_positions()
        if ("run", "account") in saved.records:
            gate.venue.restore(saved.records["run", "account"])
        self._restore_history()
        self.reconciler.unlisted.begin(self.reconciler.match_orders())
        self._restore_monitors()
        self.recorder.begun = True
        gate.trading_state.restore(self._saved_requests())
        self.reconciler.unlisted.request()
        gate.process_notifications()  # fills between the runs that the broker reports

    def _restore_trades(self) -> None:
        book, saved = self.gate.book, self.saved
        rounds = self._last_run["rounds"]
        indices = {i.name: i.lead.index for i in book.instruments}
        for record in saved.trades.values():
            name = record["instrument"]
            bars = saved.records.get(("instrument", name), {}).get("bars", 0)
            owner = self.reconciler.owner(record["owner"])
            book.trades.append(restored_trade(record, owner, indices.get(name, -1), rounds, bars))
        self.recorder.written_trades = len(book.trades)

    def _restore_positions(self) -> None:
        for record in self.saved.of("position").values():
            instrument = self._instrument(record["data"])
            if instrument is not None:
                owner = self.reconciler.owner(record["owner"])
                restore_part(self.gate.book.part(instrument, owner), record)
                self.gate.book.sum_up(instrument)
            elif record["size"]:
                name = record["data"]
                reason = f"state: {record['size']:g} {name} are held, and this run has no such data"
                self.reconciler.note(name, "unprotected", reason)

    def _instrument(self, name: str) -> Instrument | None:
        return next((i for i in self.gate.book.instruments if i.name == name), None)

    def _restore_history(self) -> None:
        book, saved = self.gate.book, self.saved
        rounds = self._last_run["rounds"]
        for _, record in sorted(saved.of("sent").items()):
            instrument = self._instrument(record["data"])
            if instrument is not None and book.sent is not None:
                bars = saved.records["instrument", instrument.name]["bars"]
                strategies = self.gate.cerebro.runningstrats
                book.sent.append(restored_sent(record, instrument, rounds, bars, strategies))
        if self._last_run["datas"] == [i.name for i in book.instruments]:
            limits = self.gate.registry.limits
            for place, one, other, side in self._last_run["latched"]:
                if place < len(limits):
                    book.latched.add((id(limits[place]), frozenset((one, other)), side))

    def _restore_closes(self) -> None:
        """Restore the saved closes once the first bar shows that no bar is missing since."""
        new = [i for i in self.gate.book.instruments if i.close.lencount > i.length]
        if not new:
            return
        if any(_misses_bars(instrument) for instrument in new):
            self.recorder.closes.forget()
            reason = "state: bars are missing since the last run: correlations begin anew"
            self.reconciler.note("", "note", reason)
        else:
            self.recorder.closes.restore()

    def _restore_monitors(self) -> None:
        numbers: dict[str, int] = {}
        for monitor in self.gate.registry.monitors:
            kind = monitor.state_kind
            if kind:
                number = numbers[kind] = numbers.get(kind, -1) + 1
                prefix = f"{number}:"
                records = self.saved.of(kind)
                monitor.restore(
                    {k[len(prefix) :]: v for k, v in records.items() if k.startswith(prefix)}
                )
        for place, strategy in enumerate(self.gate.cerebro.runningstrats):
            record = self.saved.records.get(("sizer", str(place)))
            if record is not None and hasattr(strategy.getsizer(), "restore"):
                strategy.getsizer().restore(record)

    def _saved_requests(self) -> dict[str, Record]:
        """Return the saved requests for a trading state.

        Entries are refused where a state is lost, because it might have forbidden them.
        """
        requests, file = self.saved.of("gate"), self.file
        held = [i.name for i in self.gate.book.instruments if self._held(i)] if file.lost else []
        if file.lost and (held or not file.new):
            open_ = f" while {', '.join(held)} is held" if held else ""
            reason = f"state: {file.lost}{open_}: no entries until `bt-risk rearm {file.path}`"
            requests["state"] = {"state": REDUCING, "reason": reason, "flattening": ""}
        return requests

    def _held(self, instrument: Instrument) -> bool:
        """Return whether something is held, or may be: the broker has raised an error."""
        size = self.gate.venue.view.position(instrument)
        return bool(self.gate.venue.view.error if size is None else abs(size) > SIZE_EPS)

    def settle_stops(self, gone: bool) -> str:
        """Carry out what an operator has found of the stops that the broker does not list.

        They are `gone`, and placed again; or they rest at the venue. Return the answer.
        """
        return self.reconciler.unlisted.settle(gone)

    # -- bars ------------------------------------------------------------------------------------

    def new_bars(self, fresh: list[Instrument], acting: list[Instrument]) -> list[Instrument]:
        """Return the instruments of `acting` whose bar is not one that an earlier run has had.

        The closes of all `fresh` instruments are saved.
        """
        self.recorder.closes.add([one for one in fresh if not one.repeats])
        new = [one for one in acting if not one.repeats]
        for instrument in new:
            if instrument.index not in self._counted:
                self._count_from(instrument)
        return new

    def _count_from(self, instrument: Instrument) -> None:
        """Count the bars of restored trades and orders from the first new bar on."""
        book, first = self.gate.book, not self._counted
        self._counted.add(instrument.index)
        bars = instrument.length - 1 if instrument.lead is instrument else 0
        rounds = book.rounds - 1 if first else 0
        events: Any
        for events in (book.trades, book.sent or []):
            for place, event in enumerate(events):
                own = bars if event.index == instrument.index else 0
                events[place] = shifted(event, own, rounds)


def _misses_bars(instrument: Instrument) -> bool:
    since = instrument.datetime[0] - instrument.known_until
    return bool(instrument.repeats and since > 2.0 * instrument.longest_gap > 0.0)
