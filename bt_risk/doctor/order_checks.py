"""Check market orders: notifications, position, cancel of what has filled, and the way out."""

from __future__ import annotations

from bt_risk.doctor.account_checks import check_value_held
from bt_risk.doctor.orders import SentOrder
from bt_risk.doctor.session import CheckError, Session, Step
from bt_risk.tolerances import SIZE_EPS

__all__ = ["buy_again", "check_buy", "check_cancel_of_filled", "check_client_ids"]

# A fill may be this far from the last close, as a fraction, before its price counts as wrong.
_SANE = 0.2


def check_buy(s: Session) -> Step:
    """Buy the smallest size at the market and check what the store makes of it."""
    cash, value = s.broker.getcash(), s.broker.getvalue()
    s.base = s.position()
    one = s.send("buy at the market", +1)
    yield from s.until(lambda: one.ended)
    yield from s.until(lambda: one.count("Completed") > 1, min(1.0, s.watch))
    before = s.position()
    yield from s.until(lambda: abs(s.held() - s.size) <= SIZE_EPS, s.watch)
    late = before != s.position()
    _check_notifications(s, one)
    if one.filled < s.size - SIZE_EPS and abs(s.held()) <= SIZE_EPS:
        raise CheckError(f"the order to buy was not filled ({one.story()})")
    _check_fill(s, one)
    _check_position(s, one, late)
    yield from check_value_held(s, cash, value)
    if not one.filled:
        raise CheckError("fills are not reported, and bt_risk relies on them")


def _check_notifications(s: Session, one: SentOrder) -> None:
    check, story = "buy: notifications", one.story()
    twice = [name for name in ("Submitted", "Accepted", "Completed") if one.count(name) > 1]
    if one.refused:
        s.fail(check, f"the order was refused: {story}; is the size too small, or the market shut?")
    elif not one.has("Completed"):
        s.fail(check, f"Completed was not reported within {s.timeout:g} s: {story}")
    elif twice:
        times = ", ".join(f"{name} {one.count(name)} times" for name in twice)
        s.fail(check, f"{times}; bt_risk counts each fill once, your strategy hears them all")
    elif not one.has("Submitted") or not one.has("Accepted"):
        s.fail(check, f"{story}: Submitted and Accepted are not both reported; bt_risk goes on")
    else:
        s.ok(check, story)
    if not one.has("Completed"):
        return
    if one.has("Partial"):
        s.ok("buy: partial fills", f"{one.count('Partial')} times Partial before Completed")
    else:
        s.skip("buy: partial fills", "the order filled at once; a larger --size may fill in parts")


def _check_fill(s: Session, one: SentOrder) -> None:
    check = "buy: size and price of the fill"
    done = [note for note in one.notes if note.size or note.status == "Completed"]
    if not done:
        s.fail(check, "no notification has a size")
        return
    size, price, last = done[-1].size, done[-1].price, s.prices.last
    if size < 0.0:
        s.fail(check, f"executed.size is {size:g} for a purchase: the sign is wrong")
    elif abs(size - s.size) > SIZE_EPS:
        s.fail(check, f"executed.size is {size:g}, {s.size:g} were bought")
    elif not abs(price - last) <= _SANE * abs(last):
        s.fail(check, f"executed.price is {price:g}, the market is at {last:g}")
    else:
        s.ok(check, f"{size:g} at {price:g}")


def _check_position(s: Session, one: SentOrder, late: bool) -> None:
    held = s.held()
    s.knows_position = abs(held - s.size) <= SIZE_EPS
    if abs(held - one.filled) > SIZE_EPS:
        seen = f"the broker reports {held:g} where {one.filled:g} has filled"
        s.fail("position after the fill", f"{seen}: bt_risk cannot compare its book with it")
    else:
        s.ok("position after the fill", f"{held:g}{', only some time later' if late else ''}")


def check_cancel_of_filled(s: Session) -> Step:
    """Cancel an order that has filled: as it is now, and as the store knew it before the fill."""
    check = "cancel of a filled order"
    filled = [one for one in s.sent if one.has("Completed") and one.order is not None]
    if not filled:
        s.skip(check, "no order has filled")
        return
    one, held = filled[0], s.position()
    told, error = len(one.notes), s.cancel(one)
    yield from s.pause()
    if error:
        s.fail(check, f"cancel has raised {error}; bt_risk goes on, your strategy may not")
        return
    wrong = [note.status for note in one.notes[told:] if note.status == "Canceled"]
    if not wrong:
        # An order may fill at the venue before the store knows: it then has its earlier status.
        past = one.order.clone()
        past.status = past.Accepted
        error = s.cancel(SentOrder(one.what, one.side, one.size, one.price, 0.0, order=past))
        yield from s.pause()
        wrong = [note.status for note in one.notes[told:] if note.status == "Canceled"]
    if wrong:
        seen = "it was reported Canceled although it had filled: cancel does not wait for the venue"
        remedy = 'correct cancel, or set capabilities = {"stop": False}; else exits fill twice'
        s.capabilities["stop"] = False
        s.fail(check, f"{seen}; {remedy}")
    elif s.position() != held:
        s.fail(check, f"the position changed from {held:g} to {s.position():g}")
    else:
        s.ok(check, "nothing was reported, and the position stayed")


def check_client_ids(s: Session) -> Step:
    """Check that orders are found by their client id, and unknown ids are not."""
    yield from s.until(lambda: True)
    check, ask = "client ids", getattr(s.broker, "order_by_client_id", None)
    if ask is None or not s.declares("client_ids"):
        declared = "declares no client_ids" if ask else "has no order_by_client_id"
        s.skip(
            check, f"the broker {declared}: after a lost answer bt_risk waits for a notification"
        )
        return
    s.capabilities["client_ids"] = False
    unknown = ask("doctor-unknown-0000")
    if unknown is not None:
        s.fail(check, "order_by_client_id answers an order for an id that nobody has used")
        return
    sent = [one for one in s.sent if one.client_id and one.order is not None]
    if not sent:
        del s.capabilities["client_ids"]
        s.skip(check, "an unknown id is answered None; no order was sent with an id")
        return
    found = ask(sent[0].client_id)
    if found is None or found.isbuy() != (sent[0].side > 0):
        s.fail(check, f"order_by_client_id does not find the order to {sent[0].what}")
        return
    s.capabilities["client_ids"] = True
    s.ok(check, "the order was found by its id; an unknown id is answered None")


def buy_again(s: Session) -> Step:
    """Hold the size again where a check has sold it; CheckError where that fails."""
    if s.net() >= s.size - SIZE_EPS:
        return
    one = s.send("buy at the market", +1)
    yield from s.until(lambda: one.ended)
    if not one.has("Completed"):
        raise CheckError(f"a second order to buy was not filled ({one.story()})")
