"""RiskBroker: every order of every strategy passes through it. It intercepts and forwards."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, MutableSet
from pathlib import Path
from typing import Any

import backtrader as bt

from bt_risk.errors import ParameterError, check_choice, check_limit, wrong_place
from bt_risk.gate.broker_proxy import BrokerProxy
from bt_risk.gate.bypass import ON_BYPASS, Bypass, running_gate
from bt_risk.gate.exit_orders import ExitOrders
from bt_risk.gate.fills import FillTracker
from bt_risk.gate.headroom import Headroom
from bt_risk.gate.input_log import InputLog
from bt_risk.gate.journal import Journal
from bt_risk.gate.live_venue import LiveVenue
from bt_risk.gate.operator import Operator
from bt_risk.gate.order_events import OrderEvents
from bt_risk.gate.order_review import OrderReview
from bt_risk.gate.registry import Registry
from bt_risk.gate.silence import Silence
from bt_risk.gate.simulated_venue import SimulatedVenue
from bt_risk.gate.trading_state import TradingState
from bt_risk.gate.venue import Venue
from bt_risk.limits.base import Limit, check_limits
from bt_risk.limits.guard_config import check_guards
from bt_risk.limits.trade_guards import Guard
from bt_risk.live.alerts import Alerts
from bt_risk.live.feed_monitor import FeedMonitor
from bt_risk.live.held_orders import HeldOrders
from bt_risk.live.order_sender import OrderSender
from bt_risk.live.settings import Live
from bt_risk.live.shutdown import Shutdown
from bt_risk.monitors.settings import StopDistanceSettings
from bt_risk.orders import ACTIVE, HALTED, REDUCING
from bt_risk.portfolio.bar_check import BAR_JUMP
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import STALE_BARS, Instrument, instruments_of
from bt_risk.portfolio.instrument_facts import check_instruments
from bt_risk.portfolio.point_value import point_value
from bt_risk.portfolio.signals import Signals
from bt_risk.state.file import check_state
from bt_risk.state.no_state import NoState
from bt_risk.state.recovery import Recovery

__all__ = ["ACTIVE", "HALTED", "REDUCING", "RiskBroker"]


class RiskBroker(BrokerProxy):
    """A gate around any broker, by composition: a store supplies its own.

    Every name that only the wrapped broker has is read and set there, so
    ``cerebro.broker.setcash(...)`` works before and after; a subclass keeps its own attributes.
    Wrapping a RiskBroker joins it: both are then the same gate.

    Parameters
    ----------
    broker : broker, optional
        What to wrap; None is a new ``BackBroker``.
    instruments : dict, optional
        Facts by name of the data feed: ``{"BTC": dict(step=1e-5, min_notional=10, atr_multiple=3,
        risk_limit=0.005, tick=0.05)}``. Without a step, sizes are whole units; with a tick, stops
        rest at whole ticks. A `risk_limit` of 0.5 and more needs ``allow_extreme=True`` beside it.
    atr_period, atr_multiple
        Stop distance of a position that has no stop order (yet): 2 x ATR(14) if left out.
    bar_jump : float, default 20
        ATRs by which a close may differ from the close before. A bar beyond that, or one whose
        prices contradict each other, moves no mark and sizes no order before the next bar agrees;
        None believes every move.
    guards : list, optional
        Rules that refuse entries for a while: ``[CooldownGuard(5), DailyLossLimit(0.03)]``.
    limits : list, optional
        Limits that every order is judged by: those of bt_risk, ``[NotionalLimit(2.0)]``, or your
        own (see `Limit`).
    state : str or path, optional
        File in which everything is saved that must survive the process: see `protect`.
    on_bypass : {"alert", "halt"}
        What follows an order, a position or a broker that got around the gate: see `protect`.
    **live
        What a broker that is not a simulation needs: see `bt_risk.Live`.

    Notes
    -----
    In live mode SIGTERM and SIGINT end the run: entries are cancelled, stops stay, and the journal
    says what remains open. A second signal acts as it would have without the gate.
    """

    _start = set = wrong_place("a broker", "cerebro.setbroker({name}(cerebro.broker))")
    # Annotated names are the gate's own, whatever the wrapped broker has: see `BrokerProxy`.
    inner: Any
    cerebro: Any
    venue: Venue
    registry: Registry
    book: Book
    journal: Journal
    events: OrderEvents
    order_review: OrderReview
    fill_tracker: FillTracker
    exit_orders: ExitOrders
    held_orders: HeldOrders
    order_sender: OrderSender
    feed_monitor: FeedMonitor
    trading_state: TradingState
    operator: Operator
    alerts: Alerts
    bypass: Bypass
    silence: Silence
    shutdown: Shutdown | None
    recovery: Recovery | NoState
    equity: Callable[[], float]
    unit_value: Callable[[], float]
    instruments: dict[str, dict[str, Any]]
    live: Live
    state_file: Path | None
    on_bypass: str
    bar_jump: float
    max_stale_bars: int | None
    allocations: dict[Any, Any]
    own: dict[int, Any]
    observe: bool
    keeps_inputs: bool  # whether a run records what `verify` needs
    inputs: InputLog | None
    late: bool
    ticks: int
    ending: MutableSet[Any]  # monitors after whose halt the run is to end
    _stop_rule: tuple[int, float]
    _notifications: deque[Any]
    _stopped: bool
    _watched: bool  # whether a round checks what only a live run or a state file needs

    def __init__(
        self,
        broker: Any = None,
        *,
        instruments: dict[str, dict[str, Any]] | None = None,
        atr_period: int | None = None,
        atr_multiple: float | None = None,
        bar_jump: float | None = BAR_JUMP,
        guards: Iterable[Guard] = (),
        limits: Iterable[Limit] = (),
        state: str | Path | None = None,
        on_bypass: str = "alert",
        **live: Any,
    ) -> None:
        name = type(self).__name__
        settings, state_file = Live.named(name, **live), check_state(name, state)
        facts = check_instruments(name, instruments)
        added = [*check_limits(name, limits), *check_guards(name, guards)]
        distance = {"atr_period": atr_period, "atr_multiple": atr_multiple}
        given = {param: value for param, value in distance.items() if value is not None}
        StopDistanceSettings.checked(name, given)
        check_choice(name, "on_bypass", on_bypass, ON_BYPASS)
        jump = check_limit(name, "bar_jump", bar_jump, remedy="It counts ATRs.")
        if isinstance(broker, RiskBroker):
            object.__setattr__(self, "__dict__", broker.__dict__)
        else:
            self._wrap(name, broker)
        if jump != BAR_JUMP:
            self.bar_jump = jump
        if on_bypass != "alert":
            self.on_bypass = on_bypass
        if live:
            self.live = settings
        self.instruments.update(facts)
        period, multiple = self._stop_rule
        self._stop_rule = atr_period or period, atr_multiple or multiple
        self.registry.permanent += added
        self.state_file = state_file or self.state_file

    def _wrap(self, name: str, broker: Any) -> None:
        if broker is not None and (isinstance(broker, type) or not hasattr(broker, "buy")):
            remedy = "Pass the object itself, as in RiskBroker(cerebro.broker)."
            raise ParameterError(name, "broker", "a broker", broker, remedy)
        self.inner = bt.brokers.BackBroker() if broker is None else broker
        self.cerebro = getattr(self.inner, "cerebro", None)
        distance = StopDistanceSettings()
        self._stop_rule = distance.atr_period, distance.atr_multiple
        self.instruments, self.live = {}, Live()
        self.late, self.observe, self.bar_jump = False, False, BAR_JUMP
        self.keeps_inputs = False
        self.on_bypass = "alert"
        self.shutdown = self.state_file = self.max_stale_bars = None
        self.recovery = NoState()
        self.connect(self.inner)
        self.registry = Registry(self)
        self._reset(Book())

    def connect(self, broker: Any) -> None:
        """Wrap this broker from now on."""
        self.inner, self._watched = broker, True
        self.venue = self._new_venue()
        # Cerebro and strategies call these on every bar: no detour by __getattr__.
        for call in ("getposition", "getcommissioninfo"):
            self.__dict__[call] = getattr(broker, call)
        self.__dict__.update(self.venue.account_calls())

    def _new_venue(self) -> Venue:
        simulated = isinstance(self.inner, bt.brokers.BackBroker)
        return SimulatedVenue(self) if simulated else LiveVenue(self)

    # -- finding and installing ------------------------------------------------------------------

    @classmethod
    def of(cls, strategy: Any) -> RiskBroker:
        """Return the gate of the strategy's Cerebro, installed now if there is none.

        A late gate wraps the broker that is there and is handed to every running strategy and
        sizer; it removes itself at the end of the run. A gate that a strategy has replaced by
        another broker is put back.
        """
        cerebro = strategy.cerebro
        running = running_gate(cerebro)
        if running is not None:
            return running.bypass.restore(strategy)
        gate = cerebro._broker
        if not isinstance(gate, RiskBroker):
            gate = RiskBroker(gate)
            gate.late = True
            gate.install(cerebro)
            gate._begin()
        for running in (strategy, *cerebro.runningstrats):
            if running.broker is not gate:
                running.broker = gate
                running._sizer.broker = gate
        return gate

    def install(self, cerebro: Any) -> None:
        """Put the gate in front of the broker that this Cerebro has."""
        cerebro._broker = self
        self.cerebro = cerebro

    def uninstall(self) -> None:
        """Give the Cerebro its own broker back."""
        if self.cerebro._broker is self:
            self.cerebro._broker = self.inner

    def bind(
        self,
        limits: Iterable[Limit],
        instruments: dict[str, dict[str, Any]] | None,
        stop_rule: tuple[int, float],
    ) -> None:
        """Let a policy add its limits and facts to the next run."""
        self.registry.bind(limits)
        self.instruments.update(instruments or {})
        self._stop_rule = stop_rule

    def call_stale_after(self, bars: int) -> None:
        """Let a data feed be stale after so many bars of others without one; the fewest count."""
        self.max_stale_bars = min(bars, self.max_stale_bars or bars)

    # -- a broker to Cerebro ---------------------------------------------------------------------

    def start(self) -> None:
        """Start the wrapped broker, and begin with a clean state."""
        self.inner.start()
        self._begin()

    def _begin(self) -> None:
        instruments = instruments_of(type(self).__name__, self.cerebro.datas, self.instruments)
        stale = self.max_stale_bars or STALE_BARS
        signals = Signals(self.cerebro.datas)
        self._reset(Book(instruments, *self._stop_rule, stale, self.bar_jump, signals))
        saves = self.state_file is not None
        self.book.loads_bars = self.venue.direct and self.cerebro._dopreload and not saves
        if self.keeps_inputs:
            self.inputs = InputLog(self)
        # A live broker may know the contract of a data feed only once that has started.
        for instrument in instruments if self.venue.direct else ():
            self.book.measure(instrument, self.inner.getcommissioninfo(instrument.data))
        self.registry.begin(self.instruments)
        self.bypass.begin()
        # The points of an optimisation are no account: they would overwrite each other.
        if self.state_file is not None and not self.cerebro._dooptimize:
            self.recovery = Recovery(self, self.state_file)
        if (self.cerebro._dolive or self.cerebro.p.live) and not self.observe:
            self.shutdown = Shutdown(self)
            self.shutdown.install()
        live = not self.venue.direct or self.feed_monitor.active or self.shutdown is not None
        self._watched = live or self.recovery.active

    def _reset(self, book: Book) -> None:
        """Begin anew with a book: every part of the gate belongs to one run."""
        self._release()
        self.book, self.own, self.allocations, self.ticks = book, {}, {}, 0
        self.inputs = None
        self.ending = set()
        self._notifications, self._stopped = deque(), False
        self.alerts = Alerts(self.live.listeners, self.live.heartbeat_url())
        self.journal = Journal(self.observe, self.alerts.notify)
        self.journal.begin(book)
        self.venue = self._new_venue()
        self.registry.clear()
        self.events = OrderEvents(book)
        self.order_sender, self.held_orders = OrderSender(self), HeldOrders(self)
        self.order_review, self.exit_orders = OrderReview(self), ExitOrders(self)
        self.fill_tracker, self.trading_state = FillTracker(self), TradingState(self)
        self.bypass, self.silence, self.operator = Bypass(self), Silence(self), Operator(self)
        self.feed_monitor = FeedMonitor(self, skips_past=not self.venue.direct)
        self.equity, self.unit_value = self.venue.equity_sources()

    def _release(self) -> None:
        """Leave the wrapped broker, the signals and the state file as they were found."""
        self.venue.release()
        if self.shutdown is not None:
            self.shutdown.restore()
            self.shutdown = None
        self.recovery.close()
        self.recovery = NoState()

    def next(self) -> None:
        """Let the wrapped broker execute, then act on its fills and on the new bars."""
        watched = self._watched
        if watched and not self._begins_round():
            return
        self.ticks += 1
        self.venue.execute()
        book = self.book
        news = fresh = book.update()
        if book.suspects:
            self._note_suspects(fresh)
        if watched and self.feed_monitor.active:
            news = self.feed_monitor.check(fresh)
        if self.fill_tracker.unknown:
            self.fill_tracker.adopt(fresh)
        if self.bypass.checks:
            self.bypass.check(fresh)
        if watched:
            news = self._check_account(fresh, news)
        if self.fill_tracker.touched:
            self.follow_fills()
        if self.feed_monitor.missed:
            for monitor in self.registry.monitors:
                monitor.on_missed(self.feed_monitor.missed)
        rounds = self.registry.rounds
        if rounds is None or watched:
            for monitor in self.registry.monitors:
                monitor.on_bar(news)
        else:
            rounds.on_bar(news)
        if watched and self.recovery.active:
            self.recovery.recorder.save()

    def _begins_round(self) -> bool:
        """Return whether a round of a live run, or of one with a state file, may begin."""
        if self.recovery.active:
            self.recovery.begin_round()
        if self.shutdown is not None:  # a live run, which may never end
            if self.shutdown.ends_run():
                return False
            self.silence.check()
        return True

    def _check_account(self, fresh: list[Instrument], news: list[Instrument]) -> list[Instrument]:
        """Check what such a run must know before it acts; return what to act upon."""
        if self.recovery.active:
            news = self.recovery.new_bars(fresh, news)
        if not self.venue.direct:
            self.venue.sample(fresh)
        for name, trouble in self.book.signals.news():
            why = f"{name}: {trouble or 'its source answers again'}"
            action = "stale" if trouble else "note"
            self.journal.account("SignalData", action, f"SignalData: {why}")
        return news

    def _note_suspects(self, fresh: list[Instrument]) -> None:
        """Add a line for every bar that is not believed before the next one agrees."""
        for instrument in fresh:
            if instrument.suspect and self.judges:
                reason = f"bar: {instrument.suspect}; it counts once the next bar agrees"
                self.journal.instrument(instrument, "bar", "note", reason)

    def follow_fills(self) -> None:
        """Call the monitors for every fill."""
        touched = self.fill_tracker.touched
        while touched:
            part = touched.pop(0)
            if part.instrument.orders and self.intervenes:
                self.exit_orders.settle(part.instrument)
            for monitor in self.registry.monitors:
                monitor.on_fill(part)
            # A stop that was withdrawn ends now, not on the next bar.
            self.process_notifications()

    def process_notifications(self) -> None:
        """Book what the wrapped broker notifies, and pass it on in the same sequence."""
        direct, next_one, take = (
            self.venue.direct,
            self.venue.next_notification,
            self.fill_tracker.take,
        )
        while True:
            order = next_one()
            if order is None:
                return
            # BackBroker answers every order at once, under the number that it keeps.
            if not direct and self.order_sender.doubts.claim(order):
                continue
            filled = take(order)
            if filled or order.ref not in self.own:
                if not direct:
                    order = self.held_orders.numbers.as_promised(order, filled)
                if order is not None:
                    self._notifications.append(order)

    def get_notification(self) -> Any:
        """Return the next order notification for Cerebro, or None."""
        if not self._notifications:
            return None
        order = self._notifications.popleft()
        self.events.heard(order)
        return order

    def announce(self, order: Any) -> None:
        """Notify of an order that the wrapped broker does not know."""
        self._notifications.append(order.clone())

    def stop(self) -> None:
        """Stop the wrapped broker and leave everything as it was found."""
        self.inner.stop()
        self.silence.check()
        self.recovery.recorder.save()
        if self.registry.rounds is not None:
            self.registry.rounds.wake_all()
        self._release()
        for monitor in self.registry.monitors:
            monitor.on_end()
        self.alerts.close()
        self.bypass.end()
        if self._stopped:
            self.cerebro._event_stop = False
        if self.late:
            self.uninstall()

    def stop_engine(self, between_bars: bool = False) -> None:
        """End the run; what Cerebro would keep of that for its next run is undone in `stop`.

        Between the bars of a live run strategies first get what is pending: no bar would bring it.
        """
        if between_bars:
            for strategy in self.cerebro.runningstrats:
                if strategy._orderspending:
                    strategy._notify()
                    strategy.clear()
        self._stopped = True
        self.cerebro.runstop()

    def buy(self, owner: Any, data: Any, size: float, *args: Any, **kwargs: Any) -> Any:
        """Review a buy order and send what is allowed of it."""
        if self.inputs is not None:
            return self.inputs.submit(1, owner, data, size, args, kwargs)
        return self.order_review.submit(1, owner, data, size, args, kwargs)

    def sell(self, owner: Any, data: Any, size: float, *args: Any, **kwargs: Any) -> Any:
        """Review a sell order and send what is allowed of it."""
        if self.inputs is not None:
            return self.inputs.submit(-1, owner, data, size, args, kwargs)
        return self.order_review.submit(-1, owner, data, size, args, kwargs)

    def headroom(
        self,
        data: Any,
        side: int,
        stop_price: float | None = None,
        *,
        owner: Any = None,
        price: float | None = None,
        exectype: int | None = None,
    ) -> Headroom:
        """Return the largest order that would pass now, and the rule that allows no more.

        It is judged like an order, by the same limits; nothing is sent, and nothing is written to
        the journal. Cash is not asked: Backtrader's broker checks that when the order fills.

        Parameters
        ----------
        data : data feed
        side : {1, -1}
            1 buys, -1 sells.
        stop_price : float, optional
            Stop behind the order, as in ``buy(..., stop_price=)``. Without it the stop that covers
            the position counts, or the ATR distance.
        owner : strategy, optional
            The strategy that would send it; needed where the run has several.
        price, exectype : optional
            As of the order; without them it is one at the market.

        Returns
        -------
        Headroom
            `size` (whole steps of the instrument, whole units without a step), `rule`, `reason`,
            and `answers`: the `Decision` of each limit alone.
        """
        terms = {"price": price, "exectype": exectype}
        return self.order_review.headroom.ask(data, side, stop_price, owner, terms)

    def cancel(self, order: Any, *args: Any, **kwargs: Any) -> Any:
        """Cancel a working order; the protective orders of bt_risk stay."""
        if self.inputs is not None:
            self.inputs.cancel(order)
        ref = getattr(order, "ref", None)
        self.events.withdrawn(ref)
        if ref in self.order_review.rejected:
            return False
        if ref in self.own:
            if self.journal.once(("cancel", ref)):
                reason = "ATRTrailingStop: protective orders are not cancelled from outside"
                self.journal.order(order, "ATRTrailingStop", "note", reason)
            return False
        if ref is not None:
            order = self.held_orders.cancel(ref, order)
            if order is None:  # it was held back: the broker does not have it
                return True
        result = self.inner.cancel(order, *args, **kwargs)
        self.process_notifications()  # an exit that is cancelled makes room for the next one
        return result

    # -- limits and the kill switch --------------------------------------------------------------

    @property
    def limits(self) -> list[Limit]:
        """The limits that are asked in this run."""
        return self.registry.limits

    def add_limit(self, limit: Limit) -> None:
        """Ask this limit too, before anything opens in this run."""
        self.registry.add_limit(limit)

    @property
    def state(self) -> str:
        """ACTIVE, REDUCING (only what reduces passes) or HALTED (and nothing rests)."""
        return self.trading_state.why[0]

    def set_state(self, source: Any, state: str, reason: str = "") -> None:
        """Let `source` request a state, ACTIVE takes it back; the strictest of all counts."""
        self.trading_state.set(source, state, reason)

    def halt(self, reason: str, flatten: bool = False) -> None:
        """Refuse every entry and cancel those that rest, until `resume`; exits and stops work on.

        Parameters
        ----------
        reason : str
            Stands in the journal and on every order that is refused.
        flatten : bool
            Also close every position at the next open, and the orders behind it.
        """
        if self.inputs is not None:
            self.inputs.add("halt", reason=reason, flatten=flatten)
        self.trading_state.halt(reason, flatten)

    def reduce_only(self, reason: str) -> None:
        """Refuse every entry until `resume`: what would open is refused, what reduces passes.

        It is judged on the position and all working orders: two exits do not close twice. Limit and
        stop entries that rest are held back until `resume`; where that cannot be done, at a venue,
        they are cancelled, and so are market entries that have not filled.
        """
        if self.inputs is not None:
            self.inputs.add("reduce_only", reason=reason)
        self.trading_state.reduce_only(reason)

    def resume(self) -> None:
        """Take back `halt` and `reduce_only`.

        A breaker that has tripped goes on refusing entries: its own ``rearm()`` is the way back.
        """
        if self.inputs is not None:
            self.inputs.add("resume")
        self.trading_state.resume()

    @property
    def judges(self) -> bool:
        """Return whether anything here judges orders."""
        return bool(self.registry.limits or self.registry.monitors or self.trading_state)

    @property
    def intervenes(self) -> bool:
        """Return whether anything here may refuse, clamp or move something."""
        return self.judges and not self.observe

    # -- facts -----------------------------------------------------------------------------------

    @property
    def latest(self) -> float:
        """Return the time of the newest bar of any data feed, as a date number; NaN before it."""
        return self.book.latest

    def find(self, data: Any) -> Instrument | None:
        """Return the `Instrument` of a data feed, None for one that this Cerebro does not have."""
        return self.book.find(data)

    def multiplier(self, data: Any) -> float:
        """Return what a point of a data feed is worth: see `point_value`."""
        scheme, instrument = self.inner.getcommissioninfo(data), self.book.find(data)
        if instrument is None:
            return point_value(scheme, math.nan)
        if scheme is not instrument.scheme:
            self.book.measure(instrument, scheme)
        return instrument.multiplier
