"""Build books by hand, without Backtrader: bars, working orders and fills."""

import math
from types import SimpleNamespace

from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.position import WorkingOrder

NAN = math.nan
ME, OTHER = "me", "other"


class Line:
    """Imitate a line buffer of Backtrader: `array`, `_idx` and `lencount`."""

    def __init__(self):
        self.array, self._idx, self.lencount = [], -1, 0

    def add(self, value):
        self.array.append(value)
        self._idx += 1
        self.lencount += 1


def feed():
    return SimpleNamespace(close=Line(), high=Line(), low=Line(), datetime=Line())


def close(data, time, price, width=1.0):
    for line, value in (
        (data.close, price),
        (data.high, price + width),
        (data.low, price - width),
        (data.datetime, time),
    ):
        line.add(value)


def book_of(count=1, atr_period=2, bars=4, price=100.0):
    """Return a book of `count` instruments that stand at `price` with an ATR of 2."""
    datas = [feed() for _ in range(count)]
    book = Book([Instrument(d, i, f"D{i}") for i, d in enumerate(datas)], atr_period, 2.0)
    for time in range(bars):
        for data in datas:
            close(data, float(time), price)
        book.update()
    book.equity = 100_000.0
    return book


def alive():
    return SimpleNamespace(active=lambda: True)


def work(book, ref, side, size, opening=None, kind="limit", price=100.0, index=0, **kwargs):
    instrument = book.instruments[index]
    kwargs = {"owner": ME, "distance": 4.0, "handle": alive()} | kwargs
    owner, distance = kwargs.pop("owner"), kwargs.pop("distance")
    opening = size if opening is None else opening
    working = WorkingOrder(
        ref, instrument, owner, side, size, opening, kind, price, distance, **kwargs
    )
    book.add(working)
    return working


def fill(book, size, price=100.0, commission=0.0, owner=ME, index=0, **kwargs):
    part = book.part(book.instruments[index], owner)
    book.fill(part, size, price, commission, 5.0, **kwargs)
    return part
