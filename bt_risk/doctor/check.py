"""check_store: run all checks on a store, and return what they have seen and what to set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bt_risk.doctor.account_checks import check_account, check_value_moves, money, worth
from bt_risk.doctor.attached_checks import check_attached
from bt_risk.doctor.cleanup import clean_up
from bt_risk.doctor.contract_checks import check_step, check_tick
from bt_risk.doctor.factory import build
from bt_risk.doctor.feed_checks import check_feed, suggest_stale_after
from bt_risk.doctor.order_checks import check_buy, check_cancel_of_filled, check_client_ids
from bt_risk.doctor.report import Row, StoreReport
from bt_risk.doctor.session import CheckError, Ended, Session, Step, brief
from bt_risk.doctor.stop_checks import check_stops, check_trigger
from bt_risk.doctor.type_checks import (
    check_brackets,
    check_oco,
    check_reduce_only,
    check_types,
)
from bt_risk.errors import ParameterError, check_flag, check_positive
from bt_risk.live.capabilities import CAPABILITIES
from bt_risk.live.store_settings import StoreSettings

__all__ = ["check_store"]

Check = Callable[[Session], Step]

# What is sent, with the smallest size, in this order: what it is called, and the check.
_ORDERS: list[tuple[str, str, Check]] = [
    ("buy", "a purchase at the market", check_buy),
    ("value moves with prices", "nothing", check_value_moves),
    ("cancel of a filled order", "the cancel of the purchase", check_cancel_of_filled),
    ("stop", "a stop 5 % below the market, moved and cancelled", check_stops),
    ("client ids", "nothing", check_client_ids),
    ("stop: triggered", "a stop just below the market", check_trigger),
    ("tick", "a stop at a price between two ticks", check_tick),
    ("step", "a stop for half of the size", check_step),
    ("types", "a limit, a stop limit and a trailing stop, 5 % away", check_types),
    ("type: OCO", "a stop and a limit, 5 % away, as an OCO group", check_oco),
    ("type: bracket", "a limit to buy 5 % below the market, with two children", check_brackets),
    ("type: attached stop", "four entries, each with a stop as its child", check_attached),
]


def check_store(
    make_broker: Callable[[], Any],
    *,
    data: str | None = None,
    size: float | None = None,
    yes: bool = False,
    cash: float | None = None,
    timeout: float = 60.0,
    progress: Callable[[Row], Any] | None = None,
) -> StoreReport:
    """Run the checks on a store and return what they have seen, with the settings to use.

    It runs a Cerebro of its own, without bt_risk in it. Use a paper account or an exchange on your
    own machine: with ``yes=True`` it buys and sells `size` units about ten times.

    Parameters
    ----------
    make_broker : callable
        Without arguments, returns a new live broker, ``(broker, data feed or list of them)``, or a
        `bt.Cerebro` without a strategy. It is called twice: the second broker is what a restart
        has. It is built in a new process where `make_broker` can be pickled, such as a function
        of a module, else in this one.
    data : str, optional
        Name of the data feed to trade; the first one by default.
    size : float, optional
        Units of an order: the smallest that the venue takes. It has to be given with `yes`.
    yes : bool
        Whether orders are sent. Without it the report has what would be sent.
    cash : float, optional
        The cash that your venue shows for the account: some stores report another number.
    timeout : float
        Seconds that an answer of the store may take; prices are waited for longer.
    progress : callable, optional
        Called with each row as soon as it is known.

    Returns
    -------
    StoreReport

    Notes
    -----
    Whatever happens, also after an error or Ctrl-C, all orders are cancelled and all positions that
    the checks have opened are closed. What could not be closed stands in ``report.left``.
    """
    check_flag("check_store", "yes", yes)
    check_positive("check_store", "timeout", timeout)
    for name, number in (("size", size), ("cash", cash)):
        if number is not None:
            check_positive("check_store", name, number)
    if yes and size is None:
        remedy = "The smallest size that the venue takes, such as 0.0001 or 1."
        raise ParameterError("check_store", "size", "given with yes", size, remedy)
    setup = build(make_broker)
    session = Session(setup, data, size or 1.0, timeout, cash)
    session.make_broker, session.progress = make_broker, progress
    if yes and session.data is None:
        remedy = "Return (broker, data feed): orders need a price."
        raise ParameterError(
            "check_store", "make_broker", "one with a data feed", setup.broker, remedy
        )
    report = StoreReport(f"{type(setup.broker).__module__}.{type(setup.broker).__qualname__}")
    session.run(_script(session, report, yes, size))
    for text in session.errors:
        session.fail("the store's own methods", f"{text}; bt_risk goes on without that answer")
    report.rows = session.rows
    report.settings = _settings(session)
    return report


def _script(s: Session, report: StoreReport, yes: bool, size: float | None) -> Step:
    """Make all checks, then clean up, whatever has happened."""
    complete = False
    try:
        passive: list[tuple[str, Check]] = [("value", check_account)]
        if s.data is not None:
            passive.insert(0, ("bars", check_feed))
        for name, check in passive:
            yield from _checked(s, name, check)
        if not yes:
            yield from _checked(s, "client ids", check_client_ids)
            _list_orders(s, size)
        elif not s.prices.arrivals:
            s.skip("orders", "there is no price")
        else:
            complete = yield from _send_orders(s)
    except Ended as why:
        s.fail("the run", f"{why}: the checks are not complete")
    report.left = yield from clean_up(s)
    try:
        if complete and s.knows_position:
            yield from _checked(s, "reduce_only", check_reduce_only)
        if s.data is not None:
            yield from _checked(s, "stale_after", suggest_stale_after)
    except Ended as why:
        s.fail("the run", f"{why}: the checks are not complete")
    if complete and s.sent:
        report.left = yield from clean_up(s)


def _send_orders(s: Session) -> Step:
    """Make the checks that send orders; return False where one of them ends the others."""
    for number, (name, _, check) in enumerate(_ORDERS):
        try:
            yield from check(s)
        except CheckError as error:
            done = {row.check.partition(":")[0] for row in s.rows}
            for other, _, _ in _ORDERS[number:]:
                if other not in done:
                    s.skip(other, str(error))
            return False
        except Exception as error:  # a store raises whatever its client raises
            s.fail(name, f"it has raised {brief(error)}")
    return True


def _checked(s: Session, name: str, check: Check) -> Step:
    """Make a check; what the store raises is a row."""
    try:
        yield from check(s)
    except Exception as error:  # a store raises whatever its client raises
        s.fail(name, f"it has raised {brief(error)}")


def _list_orders(s: Session, size: float | None) -> None:
    """Add what would be sent, in size and currency."""
    units, price = s.size, s.prices.last
    for name, what, _ in _ORDERS:
        if any(row.check == name for row in s.rows):
            continue
        if what == "nothing":
            s.skip(name, "needs a position; --yes, in a paper account")
            continue
        if s.data is None or price != price:
            s.skip(name, f"would send {what}")
            continue
        value = f"{units:g} {s.name}, worth {money(worth(s, units, price))}"
        assumed = "" if size else ", if --size is 1"
        s.skip(name, f"would send {what}: {value}{assumed}")


def _settings(s: Session) -> StoreSettings:
    """Return what was found as settings."""
    capabilities = {name: s.capabilities[name] for name in _known(s)}
    instruments = {s.name: s.facts} if s.facts else {}
    stale = s.stale_after if s.stale_after == s.stale_after else None
    return StoreSettings(s.equity, stale, capabilities, instruments)


def _known(s: Session) -> Iterable[str]:
    return [name for name in CAPABILITIES if name in s.capabilities]
