"""Settings of the gate for a broker that is not Backtrader's own simulation."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, cast

from bt_risk.errors import (
    ParameterError,
    check_choice,
    check_fraction,
    check_names,
    check_positive,
    check_text,
    check_whole,
    raised_as,
)
from bt_risk.live.apprise_listener import listener_of
from bt_risk.live.capabilities import check_capabilities
from bt_risk.live.heartbeat_url import HeartbeatUrl

__all__ = ["Live"]


@dataclass(frozen=True)
class Live:
    """Settings for live brokers; `protect` and `RiskBroker` take them by name.

    With Backtrader's own simulation only `notify` has an effect.

    Parameters
    ----------
    equity : callable or {"broker", "positions"}, optional
        Where the account's equity is from. "broker" (the default): the value that the broker
        reports. "positions": its cash, and the positions at the last close. A callable without
        arguments returns it, where the broker has neither. Each is checked in the same way.
    equity_jump_limit : float, default 0.10
        Fraction of equity that the account value and the prices may differ by before the value
        counts as wrong, or as unknown.
    equity_confirmations : int, default 3
        Samples that such a move must stand for before it is believed, on different bars or
        `retry_after` seconds apart.
    flows : callable, optional
        Without arguments, returns all deposits less all withdrawals of the account so far, from
        any beginning: a change is no gain and no loss, at whatever size.
    margin_ratio : callable, optional
        Without arguments, returns the maintenance margin of the account as a fraction of the equity
        that secures it, for `MarginAccount`: at 1 the venue liquidates. Without it the broker's own
        method ``margin_ratio()`` is asked, if it has one.
    account_currency : str, optional
        Currency of the account ("USD"), where the broker does not report it as ``currency``.
    rates : dict or callable, optional
        What one unit of another currency is worth in that of the account: ``{"EUR": 1.08}``, or a
        callable that takes "EUR". Without it the broker's ``rate(currency)`` is asked.
    stale_after : float, optional
        Seconds without a bar after which a data feed gets no new risk; None: only what the data
        feed reports of itself (DISCONNECTED, DELAYED) counts.
    capabilities : dict, optional
        What the broker can do, by the names in `CAPABILITIES`; it goes before the broker's own
        ``capabilities``.
    on_stop_rejected : {"exit", "halt"}
        When the broker refuses a protective stop for good: close that position at the market, or
        close it and let nothing open until an operator re-arms.
    stop_retries : int, default 2
        How often a refused stop is tried again before that.
    retry_after : float, default 5.0
        Seconds until a request without an answer is checked again.
    cancel_tries : int, default 3
        Requests to cancel an order, `retry_after` seconds apart, after which nothing waits for its
        end: what is really held is closed.
    handover_timeout : float, default 5.0
        Seconds that an entry waits for the exit that makes room for it; then it is judged as
        things are.
    orders_per_second : float, optional
        Requests a second that the broker takes. When there are more, entries wait in the gate and
        are judged when they are sent, and so do the cancels of entries. Exits and stops count and
        never wait.
    reconcile_every : float, default 5.0
        Seconds from one comparison of the broker's positions and open orders with those of the gate
        to the next; 0: never.
    foreign : {"count", "reduce"}
        What an order that somebody else has sent on the account does: it is counted in the limits,
        or nothing new is opened either while it works. It is never cancelled.
    notify : callable or URL, or sequence of them, optional
        Called with one sentence (a `str`) for halts, refused stops, stale data, restarts; from a
        thread of its own, so that a slow or failing one never blocks trading. A URL such as
        ``"tgram://..."`` is one of apprise, which sends to Telegram, Slack, e-mail and others.
    heartbeat : str, optional
        A URL, ``http`` or ``https``, that is requested while the loop of a live run goes on: a
        service such as healthchecks.io alerts you when that stops.
    heartbeat_every : float, default 60.0
        Seconds from one such request to the next, at least.
    clock : callable
        Seconds, as `time.monotonic` gives them.
    now : callable
        Seconds since 1970, as `time.time` gives them; tests pass their own.

    Examples
    --------
    >>> Live(stale_after=90).stale_after
    90
    """

    equity: Callable[[], float] | str | None = None
    equity_jump_limit: float = 0.10
    equity_confirmations: int = 3
    flows: Callable[[], float] | None = None
    margin_ratio: Callable[[], float] | None = None
    account_currency: str | None = None
    rates: Callable[[str], float] | Mapping[str, float] | None = None
    stale_after: float | None = None
    capabilities: dict[str, bool] | None = None
    on_stop_rejected: str = "exit"
    stop_retries: int = 2
    retry_after: float = 5.0
    cancel_tries: int = 3
    handover_timeout: float = 5.0
    orders_per_second: float | None = None
    reconcile_every: float = 5.0
    foreign: str = "count"
    notify: str | Callable[[str], Any] | Sequence[str | Callable[[str], Any]] = ()
    heartbeat: str | None = None
    heartbeat_every: float = 60.0
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if self.equity is not None and self.equity not in ("broker", "positions"):
            constraint = "'broker', 'positions' or a callable without arguments"
            _check_callable("equity", self.equity, constraint)
        for name in ("flows", "margin_ratio"):
            value = getattr(self, name)
            if value is not None:
                _check_callable(name, value, "a callable without arguments")
        check_fraction("Live", "equity_jump_limit", self.equity_jump_limit)
        check_whole("Live", "equity_confirmations", self.equity_confirmations, remedy="")
        if self.account_currency is not None:
            check_text("Live", "account_currency", self.account_currency)
        if self.rates is not None and not callable(self.rates):
            if not isinstance(self.rates, Mapping):
                constraint = "a dict of rates by currency, or a callable that takes a currency"
                raise ParameterError("Live", "rates", constraint, self.rates)
            for currency, rate in self.rates.items():
                check_positive("Live", f"rates[{currency!r}]", rate)
        if self.stale_after is not None:
            check_positive("Live", "stale_after", self.stale_after)
        object.__setattr__(self, "capabilities", check_capabilities(self.capabilities))
        check_choice("Live", "on_stop_rejected", self.on_stop_rejected, ("exit", "halt"))
        check_whole("Live", "stop_retries", self.stop_retries, low=0, remedy="")
        check_positive("Live", "retry_after", self.retry_after, zero=True)
        check_whole("Live", "cancel_tries", self.cancel_tries, remedy="")
        check_positive("Live", "handover_timeout", self.handover_timeout, zero=True)
        if self.orders_per_second is not None:
            check_positive("Live", "orders_per_second", self.orders_per_second)
        check_positive("Live", "reconcile_every", self.reconcile_every, zero=True)
        check_choice("Live", "foreign", self.foreign, ("count", "reduce"))
        listeners = self.notify if isinstance(self.notify, list | tuple) else (self.notify,)
        object.__setattr__(self, "notify", tuple(listener_of(one) for one in listeners))
        _check_url(self.heartbeat)
        check_positive("Live", "heartbeat_every", self.heartbeat_every)
        _check_callable("clock", self.clock, "a callable without arguments")
        _check_callable("now", self.now, "a callable without arguments")

    @property
    def listeners(self) -> tuple[Callable[[str], Any], ...]:
        """Return the callables of `notify`, of which `__post_init__` has made a tuple."""
        return cast(tuple[Callable[[str], Any], ...], self.notify)

    def heartbeat_url(self) -> HeartbeatUrl | None:
        """Return what requests the heartbeat URL in a new run, None without one."""
        if self.heartbeat is None:
            return None
        return HeartbeatUrl(self.heartbeat, self.heartbeat_every, self.clock)

    @classmethod
    def named(cls, component: str, **settings: Any) -> Self:
        """Return the settings; an unknown name is an error of `component`."""
        check_names(component, settings, [field.name for field in fields(cls)])
        with raised_as(component):
            return cls(**settings)


def _check_callable(param: str, value: object, constraint: str) -> None:
    if not callable(value):
        raise ParameterError("Live", param, constraint, value)


def _check_url(value: object) -> None:
    if value is None or (isinstance(value, str) and value.startswith(("http://", "https://"))):
        return
    raise ParameterError("Live", "heartbeat", "a URL, http or https, or None", value)
