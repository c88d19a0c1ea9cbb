"""RiskBroker: every order of every strategy passes through it. It intercepts and forwards."""

from collections import deque
from functools import partial

import backtrader as bt

from bt_risk.errors import ParameterError, check_positive, check_whole
from bt_risk.gate.broker_proxy import BrokerProxy
from bt_risk.gate.exit_orders import ExitOrders
from bt_risk.gate.fills import FillTracker
from bt_risk.gate.journal import Journal
from bt_risk.gate.order_events import OrderEvents
from bt_risk.gate.order_review import OrderReview
from bt_risk.gate.registry import Registry
from bt_risk.gate.trading_state import KillSwitch, TradingState
from bt_risk.limits.guard_config import check_guards
from bt_risk.live.alerts import Alerts
from bt_risk.live.equity_monitor import LastKnownValue, equity_of
from bt_risk.live.exit_handover import ExitHandover
from bt_risk.live.feed_monitor import FeedMonitor
from bt_risk.live.order_sender import OrderSender
from bt_risk.live.settings import Live
from bt_risk.live.shutdown import Shutdown
from bt_risk.orders import ACTIVE, HALTED, REDUCING
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import STALE_BARS, check_instruments, instruments_of
from bt_risk.state.file import check_state
from bt_risk.state.recovery import Recovery

__all__ = ["ACTIVE", "HALTED", "REDUCING", "RiskBroker"]

_BackBroker = bt.brokers.BackBroker


class RiskBroker(Registry, KillSwitch, BrokerProxy):
    """A gate around any broker, by composition: a store supplies its own.

    What it does not define itself it takes from the broker inside, and what is set on it is set
    there, so ``cerebro.broker.setcash(...)`` works before and after. Wrapping a RiskBroker joins
    it: both are then the same gate.

    Parameters
    ----------
    broker : broker, optional
        What to wrap; None is a new ``BackBroker``.
    instruments : dict, optional
        Facts by data name: ``{"BTC": dict(step=1e-5, min_notional=10, atr_multiple=3,
        risk_limit=0.005, tick=0.05)}``. Without a step, sizes are whole units; with a tick, stops
        rest at whole ticks.
    atr_period, atr_multiple
        Stop distance of a position that has no stop order (yet): 2 x ATR(14) if left out.
    guards : list, optional
        Rules that refuse entries for a while: ``[CooldownGuard(5), DailyLossLimit(0.03)]``.
    state : str or path, optional
        File in which everything is kept that must survive the process: see `protect`.
    **live
        What a broker that is not a simulation needs: see `bt_risk.Live`.

    Notes
    -----
    In live mode SIGTERM and SIGINT end the run: entries are cancelled, stops stay, and the journal
    says what remains open. A second signal acts as it would have without the gate.
    """

    # What stands on the gate itself; every other name is the broker's inside.
    _public = (
        "inner cerebro journal book order_review fill_tracker exit_handover exit_orders limits "
        "hooks own trading_state execution "
        "instruments late observe simulated shutdown allocations max_stale_bars recovery "
        "events state_file live order_sender alerts feed_monitor equity unit_value ticks"
    )
    _private = "fund fixed bound queue stop_rule stopped"
    _own = frozenset([*_public.split(), *("_" + name for name in _private.split())])

    def __init__(
        self,
        broker=None,
        *,
        instruments=None,
        atr_period=None,
        atr_multiple=None,
        guards=(),
        state=None,
        **live,
    ):
        name = type(self).__name__
        settings, state = Live.named(name, **live), check_state(name, state)
        facts = check_instruments(name, instruments)
        guards = check_guards(name, guards)
        if atr_period is not None:
            check_whole(name, "atr_period", atr_period)
        if atr_multiple is not None:
            check_positive(name, "atr_multiple", atr_multiple)
        if isinstance(broker, RiskBroker):
            object.__setattr__(self, "__dict__", broker.__dict__)
        else:
            self._wrap(name, broker)
        if live:
            self.live = settings
        self.instruments.update(facts)
        period, multiple = self._stop_rule
        self._stop_rule = atr_period or period, atr_multiple or multiple
        self._fixed += guards
        self.state_file = state or self.state_file

    def _wrap(self, name, broker):
        if broker is not None and (isinstance(broker, type) or not hasattr(broker, "buy")):
            remedy = "Pass the object itself, as in RiskBroker(cerebro.broker)."
            raise ParameterError(name, "broker", "a broker", broker, remedy)
        self.inner = _BackBroker() if broker is None else broker
        # Whether it is Backtrader's own simulation, which lets us in at the moment of execution.
        self.simulated = isinstance(self.inner, _BackBroker)
        self.cerebro = getattr(self.inner, "cerebro", None)
        self.instruments, self._stop_rule, self.live = {}, (14, 2.0), Live()
        # Cerebro and strategies call these on every bar: no detour by __getattr__.
        for name in ("getcash", "getvalue", "getposition", "getcommissioninfo"):
            self.__dict__[name] = getattr(self.inner, name)
        if not self.simulated:
            for name in ("getcash", "getvalue"):
                self.__dict__[name] = LastKnownValue(self, getattr(self.inner, name))
            self._fund = LastKnownValue(self, partial(getattr, self.inner, "fundvalue"))
        self._fixed, self._bound = [], []
        self.late = self.observe = False
        self.execution = self.shutdown = self.max_stale_bars = None
        self.recovery = self.state_file = None
        self._reset()

    # -- finding and installing ------------------------------------------------------------------

    @classmethod
    def of(cls, strategy):
        """Return the gate of the strategy's Cerebro, installed now if there is none.

        A late gate wraps the broker that is there and is handed to every running strategy and
        sizer; it takes itself away at the end of the run.
        """
        cerebro = strategy.cerebro
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

    def install(self, cerebro):
        """Put the gate in front of the broker that this Cerebro has."""
        cerebro._broker = self
        self.cerebro = cerebro

    def uninstall(self):
        """Give the Cerebro its own broker back."""
        if self.cerebro._broker is self:
            self.cerebro._broker = self.inner

    # -- a broker to Cerebro ---------------------------------------------------------------------

    def start(self):
        """Start the broker inside, and begin with a clean state."""
        self.inner.start()
        self._begin()

    def _begin(self):
        self._reset()
        instruments = instruments_of(type(self).__name__, self.cerebro.datas, self.instruments)
        self.book = Book(instruments, *self._stop_rule, self.max_stale_bars or STALE_BARS)
        self._build()
        self.journal.begin(self.book)
        for limit in self._fixed + self._bound:
            self.add_limit(limit)
        self._bound = []
        if any("risk_limit" in facts for facts in self.instruments.values()):
            self._enforce_own_risk_limits()
        # The points of an optimisation are no account: they would overwrite each other.
        if self.state_file is not None and not self.cerebro._dooptimize:
            self.recovery = Recovery(self, self.state_file)
        if (self.cerebro._dolive or self.cerebro.p.live) and not self.observe:
            self.shutdown = Shutdown(self)
            self.shutdown.install()

    def _reset(self):
        self._unhook()
        self.alerts = Alerts(self.live.notify)
        self.journal, self.book = Journal(self.observe, self.alerts.tell), Book()
        self.journal.begin(self.book)
        self._build()
        self.limits, self.hooks, self.allocations = [], [], {}
        self.own, self.trading_state = {}, TradingState(self)
        self.exit_orders = ExitOrders(self)
        self._queue, self._stopped = deque(), False

    def _build(self):
        """Put new clerks to work on the book."""
        self.ticks = 0
        self.events = OrderEvents(self.book)
        self.order_review, self.fill_tracker, self.exit_handover = (
            OrderReview(self),
            FillTracker(self),
            ExitHandover(self),
        )
        self.order_sender, self.feed_monitor = OrderSender(self), FeedMonitor(self)
        self.equity, self.unit_value = equity_of(self)

    def _unhook(self):
        if self.execution is not None:
            self.execution.remove()
            self.execution = None
        if self.shutdown is not None:
            self.shutdown.restore()
            self.shutdown = None
        if self.recovery is not None:
            self.recovery.file.close()
            self.recovery = None

    def next(self):
        """Let the broker inside execute, take in its fills and the new bars, call the hooks."""
        if self.recovery is not None:
            self.recovery.begin_round()
        if self.shutdown is not None and self.shutdown.ends_run():
            return
        self._listen()
        news = fresh = self.book.update()
        if self.feed_monitor.active:
            news = self.feed_monitor.look(fresh)
        if self.fill_tracker.unknown:
            self.fill_tracker.adopt(fresh)
        if self.recovery is not None:
            news = self.recovery.news(fresh, news)
        self._act(news)
        if self.recovery is not None:
            self.recovery.keep()

    def _listen(self):
        """Let the broker inside execute, and see to what it has not answered yet."""
        self.inner.next()
        self.ticks += 1
        if not self.simulated or self.inner.notifs:
            self.absorb()
        if self.order_sender.doubts:
            self.order_sender.advance()
        if self.exit_handover.waiting:
            self.exit_handover.advance()
        if self.trading_state and not self.simulated:
            # A cancel that got lost is sent again in time.
            self.exit_orders.cancel_entries(self.trading_state.why[1])

    def _act(self, news):
        """Call the hooks for every part that has filled, and for the bars."""
        while self.fill_tracker.touched:
            part = self.fill_tracker.touched.pop(0)
            if self.exit_orders.guarded and not part.instrument.size:
                self.exit_orders.end_guarded(part)
            for hook in self.hooks:
                hook.on_fill(part)
            self.absorb()  # a stop that was withdrawn is gone now, not on the next bar
        for hook in self.hooks if self.feed_monitor.missed else ():
            hook.on_missed(self.feed_monitor.missed)
        for hook in self.hooks:
            hook.on_bar(news)

    def absorb(self):
        """Take in what the broker inside has to say; the order of its notifications is kept."""
        while True:
            order = self.inner.get_notification()
            if order is None:
                return
            if self.order_sender.claim(order):
                continue
            filled = self.fill_tracker.take(order)
            if filled or order.ref not in self.own:
                self._queue.append(self.exit_handover.as_promised(order))

    def get_notification(self):
        """Return the next order notification for Cerebro, or None."""
        if not self._queue:
            return None
        order = self._queue.popleft()
        self.events.heard(order)
        return order

    def announce(self, order):
        """Notify of an order that the broker inside knows nothing of."""
        self._queue.append(order.clone())

    def stop(self):
        """Stop the broker inside and leave everything as it was found."""
        self.inner.stop()
        if self.recovery is not None:
            self.recovery.keep()
        self._unhook()
        for hook in self.hooks:
            hook.on_end()
        self.alerts.close()
        if self._stopped:
            self.cerebro._event_stop = False
        if self.late:
            self.uninstall()

    def stop_engine(self, between_bars=False):
        """End the run; what Cerebro would keep of it for its next run is undone in `stop`.

        Between the bars of a live run strategies first get what is pending: no bar would bring it.
        """
        if between_bars:
            for strategy in self.cerebro.runningstrats:
                if strategy._orderspending:
                    strategy._notify()
                    strategy.clear()
        self._stopped = True
        self.cerebro.runstop()

    def buy(self, owner, data, size, *args, **kwargs):
        """Judge a buy order and send what is allowed of it."""
        return self.order_review.submit(1, owner, data, size, args, kwargs)

    def sell(self, owner, data, size, *args, **kwargs):
        """Judge a sell order and send what is allowed of it."""
        return self.order_review.submit(-1, owner, data, size, args, kwargs)

    def cancel(self, order, *args, **kwargs):
        """Cancel a working order; the protective orders of bt_risk stay."""
        ref = getattr(order, "ref", None)
        self.events.withdrawn(ref)
        if ref in self.order_review.rejected:
            return False
        if ref in self.own:
            reason = "ATRTrailingStop: protective orders are not cancelled from outside"
            self.journal.order(order, "ATRTrailingStop", "note", reason)
            return False
        if ref is not None:
            order = self.exit_handover.cancel(ref, order)
            if order is None:  # it was still waiting: the venue knows nothing of it
                return True
        result = self.inner.cancel(order, *args, **kwargs)
        self.absorb()  # an exit that is cancelled makes room for the next one at once
        return result

    @property
    def judges(self):
        """Whether anything here has a say on orders."""
        return bool(self.limits or self.hooks or self.trading_state)

    @property
    def intervenes(self):
        """Whether anything here may refuse, clamp or move something."""
        return self.judges and not self.observe

    # -- facts -----------------------------------------------------------------------------------

    @property
    def latest(self):
        """Time of the newest bar of any data, as a Backtrader date number; NaN before it."""
        return self.book.latest

    def find(self, data):
        """Return the `Instrument` of a data feed, None for one that this Cerebro does not have."""
        return self.book.find(data)

    def known_position(self, data):
        """Return the position that the broker inside has of a data feed, maybe None.

        Asking BackBroker itself makes an entry, which it values from then on: in another order
        than without us, and at a price to come where the data has no bar yet.
        """
        return self.inner.positions.get(data) if self.simulated else self.inner.getposition(data)

    def multiplier(self, data):
        """Return the contract multiplier that the broker inside has for a data feed."""
        return getattr(self.inner.getcommissioninfo(data).p, "mult", 1.0)

    def send(self, ticket, size):
        """Hand a ticket on to the broker inside; return its order."""
        order = self.order_sender.send(ticket, size)
        if self.recovery is not None:
            self.recovery.sent(order)
        return order

    def sender(self, side):
        """Return the broker's own ``buy`` or ``sell``."""
        return self.inner.buy if side > 0 else self.inner.sell
