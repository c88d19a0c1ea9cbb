"""Exposures that are added up in one pass are those of each instrument, to the last bit."""

import random

import pytest
from helpers.books import ME, NAN, OTHER, close, feed, work
from helpers.exposure_one_by_one import OneByOne

from bt_risk.portfolio import exposure as module
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.instrument import Instrument
from bt_risk.portfolio.reachable import opens_now
from bt_risk.tolerances import SIZE_EPS

UNITS = ("risk", "trade", "notional")


def random_book(seed):
    """Return a book of some names: some are copies, some have no price, some no ATR yet."""
    rng = random.Random(seed)
    datas = [feed() for _ in range(rng.randint(1, 6))]
    instruments = []
    for k, data in enumerate(datas):
        root = rng.choice(instruments).root if instruments and rng.random() < 0.2 else None
        instruments.append(Instrument(data, k, f"D{k}", root))
    book = Book(instruments, 2, 2.0)
    bars = [rng.choice([0, 1, 5, 5, 5, 5]) for _ in datas]
    for time in range(5):
        for data, count in zip(datas, bars, strict=True):
            if time < count:
                close(data, float(time), 100.0 + rng.random(), rng.choice([1.0, 0.3]))
        book.update()
    for instrument in instruments:
        instrument.multiplier = rng.choice([1.0, 1.0, 1.0, 0.1, 50.0, NAN])
        for owner in rng.choice([[ME], [ME], [ME], [ME, OTHER], []]):
            size = rng.choice([-7.0, -0.1, 0.0, 5e-10, 0.3, 3.0])
            if size:
                book.fill(book.part(instrument, owner), size, 99.0, 0.0, 5.0)
    for ref in range(1, 1 + rng.choice([0, 1, 3, 6, 9])):
        random_order(rng, book, ref)
    for part in book.parts.values():
        if rng.random() < 0.1:
            book.leaving[part] = rng.choice([0.1, 100.0])
    return book, rng


def random_order(rng, book, ref):
    instrument = rng.choice(book.instruments)
    held = instrument.parts[0].size if instrument.parts else 0.0
    if held and rng.random() < 0.6:  # our stop over a position, or over a part of it
        own, kind, side = (
            True,
            rng.choice(["stop", "stop", "stop", "market"]),
            -1 if held > 0 else 1,
        )
        size, opening = abs(held) * rng.choice([1.0, 1.0, 0.5]), 0.0
    else:
        own, kind, side = False, rng.choice(["market", "limit", "stop"]), rng.choice([1, -1])
        size = rng.choice([0.2, 4.0])
        opening = rng.choice([0.0, size, size / 2])
    price, distance = 100.0 + rng.uniform(-3, 3), rng.choice([1.0, 4.0, NAN])
    parent = rng.choice([None, None, None, ref - 1])
    group = None if own else rng.choice([None, None, "some"])
    work(
        book, ref, side, size, opening, kind, price, instrument.index,
        owner=rng.choice([ME, ME, OTHER]), distance=distance, own=own, parent=parent, group=group,
    )  # fmt: skip


def same(one, other):
    return one == other or (one != one and other != other)


def test_sums_in_one_pass_are_those_of_one_instrument_after_another():
    for seed in range(1500):
        book, rng = random_book(seed)
        fast, plain = book.exposure, OneByOne(book)
        own = rng.choice(book.instruments)
        names = [one.name for one in book.instruments if rng.random() < 0.5]
        for unit in UNITS:
            for side in (1, -1):
                assert same(fast.of_side(side, unit), plain.of_side(side, unit)), seed
                assert same(fast.of(own, side, unit), plain.of(own, side, unit)), seed
                for owner in (ME, "new"):
                    expected = plain.net(own, owner, side, unit)
                    assert same(fast.net(own, owner, side, unit), expected), seed
            for some in (None, names):
                assert same(fast.gross(own, unit, some), plain.gross(own, unit, some)), seed


def test_the_random_books_have_what_is_added_up_in_one_pass_and_what_is_not(monkeypatch):
    """Most is not asked one by one, and something of every kind is."""
    asked, one = [], module.Exposure._one

    def counting(self, instrument, side, unit):
        asked.append((len(instrument.parts), len(instrument.orders), bool(self._book.leaving)))
        return one(self, instrument, side, unit)

    monkeypatch.setattr(module.Exposure, "_one", counting)
    live = 0
    for seed in range(500):
        book, _ = random_book(seed)
        for side in (1, -1):
            live += len(book.exposure.live())
            book.exposure.of_side(side)
    assert 0.3 * live < len(asked) < 0.8 * live
    kinds = {(min(parts, 2), min(orders, 2), leaving) for parts, orders, leaving in asked}
    assert {(1, 1, False), (1, 2, False), (2, 0, False), (2, 1, False)} <= kinds
    assert (1, 0, True) not in kinds  # what leaves whole leaves nothing to ask for


@pytest.mark.parametrize(("stops", "orders"), [(0, 0), (1, 0), (0, 1), (1, 2)])
def test_what_has_one_owner_and_at_most_one_stop_is_never_asked_one_by_one(
    stops, orders, monkeypatch
):
    datas = [feed() for _ in range(30)]
    book = Book([Instrument(data, k, f"D{k}") for k, data in enumerate(datas)], 2, 2.0)
    for time in range(4):
        for data in datas:
            close(data, float(time), 100.0)
        book.update()
    for k, instrument in enumerate(book.instruments):
        book.fill(book.part(instrument, ME), 3.0, 100.0, 0.0, 5.0)
        if stops:
            work(book, k + 1, -1, 3.0, 0.0, "stop", 95.0, k, own=True)
        for n in range(orders):
            work(book, 100 * (n + 1) + k, 1, 2.0, 2.0, "market", 100.0, k, distance=3.0)
    monkeypatch.setattr(module.Exposure, "_one", None)
    expected = 30 * (3.0 * (5.0 if stops else 4.0) + orders * 2.0 * 3.0)
    assert book.exposure.of_side(1) == book.exposure.net(book.instruments[0], None, 1, "risk")
    assert book.exposure.of_side(1) == expected
    assert book.exposure.gross(book.instruments[0], "risk") == expected * 29 / 30


def bets_one_by_one(book, own):
    """Return side and index of all bets, as `Correlations` did before it stored what is held."""
    held = book.sides.nonzero()[0].tolist()
    both = [(k, int(book.sides[k])) for k in held] + [(k, -1) for k in book.opposed]
    bets = [(book.instruments[k].copies[0].index, s) for k, s in both if (k, s) not in book.gone]
    for w in book.working.values():
        if w.opening > SIZE_EPS and (w.part.size * w.side >= 0.0 or opens_now(w.part, w.side)):
            bets.append((w.instrument.copies[0].index, w.side))
    return [bet for bet in dict.fromkeys(bets) if bet[0] != own.index]


def test_bets_are_those_of_positions_and_orders():
    seen = 0
    for seed in range(400):
        book, rng = random_book(seed)
        for number in range(4):
            for k in rng.sample(range(len(book.instruments)), rng.choice([0, 0, 1])):
                book.gone[k, rng.choice([1, -1])] = True
            for own in {one.copies[0] for one in book.instruments}:
                leads, sides = book.correlations._bets(own)
                bets = list(zip(leads.tolist(), sides.tolist(), strict=True))
                assert bets == bets_one_by_one(book, own)
                seen += len(bets)
            book.gone.clear()
            part = book.part(rng.choice(book.instruments), rng.choice([ME, OTHER]))
            book.fill(part, rng.choice([-part.size or 1.0, 2.0, -2.0]), 99.0, 0.0, 6.0)
            random_order(rng, book, 50 + number)
    assert seen > 1000
