"""Signal: what a provider says of one name at one time, checked; whatever is odd is refused."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FIELDS", "SKEW", "RefusedSignal", "Signal", "parse_signal", "same_symbol", "to_plain"]

# Names of the fields, and other names that providers have for them.
FIELDS: dict[str, tuple[str, ...]] = {
    "published": ("published", "time", "datetime", "timestamp", "date"),
    "received": ("received",),
    "symbol": ("symbol", "ticker", "name"),
    "score": ("score",),
    "direction": ("direction", "action", "side"),
    "conviction": ("conviction",),
    "id": ("id",),
}
DIRECTIONS = {
    **dict.fromkeys(("1", "long", "buy", "bullish"), 1),
    **dict.fromkeys(("-1", "short", "sell", "bearish"), -1),
    **dict.fromkeys(("0", "flat", "neutral", "none"), 0),
}
# Seconds by which a provider's clock may be ahead of ours.
SKEW = 5.0
TEXT = 200  # characters of a symbol or an id
SECOND = 1_000_000  # all times are UTC microseconds since 1970
_MILLISECONDS = 1e11  # a count of seconds is smaller until the year 5138
_YEARS = 1980, 2200
_TIME_OF_DAY = re.compile(r"[T ]")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class RefusedSignal(ValueError):
    """A record is no signal; `kind` is the reason in few words, for counts."""

    def __init__(self, kind: str, value: object = None) -> None:
        self.kind = kind
        super().__init__(f"{kind}: {value!r}" if value is not None else kind)


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal.

    Attributes
    ----------
    id : str
        The provider's, or one made of the content where it gives none.
    symbol : str
        Name that it is for; empty: for whatever data feed reads it.
    published : int
        UTC microseconds since 1970.
    received : int or None
        The same, of the moment at which it arrived here; None in a file that does not say.
    score : float
        From -100 (short) to 100 (long); NaN where the provider states a direction alone.
    direction : int
        1 long, -1 short, 0 neither: of the score, where it is not stated.
    conviction : float
        From 0 to 1: a hundredth of the size of the score, where it is not stated. NaN without both.
    """

    id: str
    symbol: str
    published: int
    received: int | None
    score: float
    direction: int
    conviction: float


def parse_signal(
    values: Mapping[str, Any], received: int | None = None, skew: float = SKEW
) -> Signal:
    """Return the signal of one record, or raise RefusedSignal.

    Parameters
    ----------
    values : mapping
        By the names in `FIELDS`, without regard to case; others are ignored. None, NaN and an empty
        text count as missing.
    received : int, optional
        When it has arrived, which then counts as the time that a record without one was published.
    skew : float, default 5.0
        Seconds by which `published` may lie after `received`.
    """
    found = _fields(values)
    stamped = found.get("received")
    if received is None and stamped is not None:
        received = _micros(stamped, "received")
    published = received if "published" not in found else _micros(found["published"], "published")
    if published is None:
        raise RefusedSignal("no published time")
    if received is not None and published > received + round(skew * SECOND):
        raise RefusedSignal("published after it was received", found.get("published"))
    score = _number(found, "score", -100.0, 100.0)
    conviction = _number(found, "conviction", 0.0, 1.0)
    direction = _direction(found.get("direction"), score)
    if math.isnan(score) and not math.isnan(conviction):
        score = 100.0 * direction * conviction
        direction = direction if conviction else 0  # no conviction points nowhere
    elif math.isnan(conviction):
        conviction = abs(score) / 100.0
    symbol = _text(found, "symbol")
    name = _text(found, "id") or _made_id(symbol, published, score, direction, conviction)
    return Signal(name, symbol, published, received, score, direction, conviction)


def same_symbol(one: str, other: str) -> bool:
    """Return whether two names of an instrument are equal; an empty one is any."""
    return not one or not other or one.casefold() == other.casefold()


def to_plain(signal: Signal) -> dict[str, Any]:
    """Return the record of a signal as JSON holds it; `parse_signal` reads it back."""
    plain: dict[str, Any] = {"id": signal.id, "symbol": signal.symbol}
    plain["published"] = _iso(signal.published)
    if signal.received is not None:
        plain["received"] = _iso(signal.received)
    numbers = {"score": signal.score, "conviction": signal.conviction}
    plain |= {key: value for key, value in numbers.items() if not math.isnan(value)}
    return plain | {"direction": signal.direction}


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is there by our names."""
    if not isinstance(values, Mapping):
        raise RefusedSignal("not an object with names", type(values).__name__)
    given = {str(key).strip().casefold(): value for key, value in values.items()}
    found: dict[str, Any] = {}
    for name, names in FIELDS.items():
        for one in names:
            value = given.get(one)
            if value is not None and value != "" and value == value:
                found[name] = value
                break
    return found


def _micros(value: Any, name: str) -> int:
    """Return a time as UTC microseconds since 1970: ISO 8601, seconds or milliseconds."""
    try:
        if isinstance(value, str):
            value = _from_text(value)
        if isinstance(value, dt.datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
            micros = (aware - _EPOCH) // dt.timedelta(microseconds=1)
        else:
            number = _plain_number(value)
            micros = round(number * (1e3 if abs(number) >= _MILLISECONDS else 1e6))
        year = (_EPOCH + dt.timedelta(microseconds=micros)).year
    except (TypeError, ValueError, OverflowError):
        raise RefusedSignal(f"{name} is no time", _short(value)) from None
    if not _YEARS[0] <= year < _YEARS[1]:
        raise RefusedSignal(f"{name} is out of range", _short(value))
    return micros


def _from_text(value: str) -> Any:
    text = value.strip()
    try:
        return float(text)
    except ValueError:
        moment = dt.datetime.fromisoformat(text)
    # A date alone may be that of a score which was computed at the close: it counts from its end.
    return moment if _TIME_OF_DAY.search(text) else moment + dt.timedelta(days=1)


def _number(found: Mapping[str, Any], name: str, low: float, high: float) -> float:
    """Return a number within its range, NaN where it is missing."""
    if name not in found:
        return math.nan
    value = found[name]
    try:
        number = _plain_number(float(value) if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        raise RefusedSignal(f"{name} is no number", _short(value)) from None
    if not low <= number <= high:
        raise RefusedSignal(f"{name} is out of range", _short(value))
    return number


def _plain_number(value: Any) -> float:
    """Return a finite number; True is none, and neither is a list."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _direction(stated: Any, score: float) -> int:
    """Return the direction that is stated, else that of the score; both must agree."""
    of_score = 0 if math.isnan(score) else (score > 0) - (score < 0)
    if stated is None:
        if math.isnan(score):
            raise RefusedSignal("neither score nor direction")
        return of_score
    if isinstance(stated, float) and stated.is_integer():
        stated = int(stated)
    direction = None if isinstance(stated, bool) else DIRECTIONS.get(_short(stated).casefold())
    if direction is None:
        raise RefusedSignal("direction is unknown", _short(stated))
    if not math.isnan(score) and direction != of_score:
        raise RefusedSignal("direction contradicts score", f"{_short(stated)} at {score:g}")
    return direction


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name, "")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with one missing
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise RefusedSignal(f"{name} is no text", _short(value))
    text = str(value).strip()
    if len(text) > TEXT or not text.isprintable():
        raise RefusedSignal(f"{name} is no text", _short(value))
    return text


def _made_id(*content: object) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def _short(value: object) -> str:
    return str(value)[:40].strip()


def _iso(micros: int) -> str:
    return (_EPOCH + dt.timedelta(microseconds=micros)).isoformat()
