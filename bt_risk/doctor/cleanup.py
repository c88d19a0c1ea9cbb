"""Close and cancel what the checks have opened, and say what is left."""

from __future__ import annotations

from bt_risk.doctor.session import Session, Step
from bt_risk.tolerances import SIZE_EPS

__all__ = ["clean_up"]

_TRIES = 2


def clean_up(s: Session) -> Step:
    """Cancel all orders that may be working, then close what is held; return what is left."""
    left: list[str] = []
    for one in [one for one in s.sent if not one.ended]:
        for _ in range(_TRIES):
            if (yield from s.withdraw(one)):
                break
        if not one.ended:
            left.append(f"the {one.what} may still be working ({one.story()}); cancel it there")
    if not s.sent:
        return left
    amount, story = _opened(s), ""
    if abs(amount) > SIZE_EPS:
        side = -1 if amount > 0.0 else +1
        one = s.send(
            "sale of what is left" if side < 0 else "purchase of a short", side, abs(amount)
        )
        yield from s.until(lambda: one.ended or abs(_opened(s)) <= SIZE_EPS)
        yield from s.until(lambda: abs(_opened(s)) <= SIZE_EPS, s.watch)
        if not one.ended:
            yield from s.withdraw(one)
        story = one.story()
    amount = _opened(s)
    if abs(amount) > SIZE_EPS:
        left.append(f"{amount:+g} {s.name} are still held ({story}); close them there")
    held = _held(s)
    if abs(s.net() - held) > SIZE_EPS:
        seen = f"the fills that were reported add up to {s.net():+g}"
        left.append(f"the broker reports {held:+g} {s.name}, and {seen}; look which is true")
    return left


def _opened(s: Session) -> float:
    """Return what the checks hold: as the broker reports it where that was right, else by fills.

    It is never more than they have bought: what somebody else does on the account is theirs.
    """
    net = s.net()
    bought = sum(one.filled for one in s.sent if one.side > 0)
    sold = sum(one.filled for one in s.sent if one.side < 0)
    if not s.knows_position:
        return net
    most = max(bought, sold, s.size)
    return min(max(_held(s), -most), most)


def _held(s: Session) -> float:
    """Return the position beyond that of the start, by the fills where the broker raises."""
    try:
        return s.held()
    except Exception as error:  # a store raises whatever its client raises
        s.raised("getposition()", error)
        return s.net()
