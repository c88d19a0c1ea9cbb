"""An order that passes by the table of all pairs would pass by each pair, and nothing else does."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from helpers.books import ME, NAN, OTHER, close, feed, work

from bt_risk.limits.base import Request
from bt_risk.limits.correlation import CorrelationLimit
from bt_risk.portfolio.book import Book
from bt_risk.portfolio.correlation import Correlations
from bt_risk.portfolio.instrument import Instrument
from bt_risk.rules.return_window import ReturnWindow

WINDOW, MIN_PERIODS = 12, 5


class World:
    """A book whose names move together more or less, and change at random between questions."""

    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        self.datas = [feed() for _ in range(rng.choice([1, 4, 9, 17]))]
        # Some are copies of another one, some stand still, some miss bars, some end early.
        instruments = []
        for k, data in enumerate(self.datas):
            root = instruments[0].root if instruments and seed % 5 == 0 and k % 4 == 0 else None
            instruments.append(Instrument(data, k, f"D{k}", root))
        self.book = Book(instruments, 2, 2.0)
        odd = 0.1 if seed % 2 else 0.0
        self.kinds = [
            rng.choice(["still", "gaps", "ends"]) if rng.random() < odd else "" for _ in self.datas
        ]
        self.prices = [100.0] * len(self.datas)
        self.bars = self.orders = 0

    def bar(self):
        market = self.rng.gauss(0.0, 0.01)
        for k, (data, kind) in enumerate(zip(self.datas, self.kinds, strict=True)):
            if kind != "still":
                self.prices[k] *= math.exp(market + self.rng.gauss(0.0, 0.008))
            ended = kind == "ends" and self.bars > 14
            if not ended and (kind != "gaps" or self.rng.random() < 0.8):
                close(data, float(self.bars), self.prices[k])
        self.bars += 1
        self.book.update()

    def change(self):
        """Fill, send or end an order, or let a position count as gone."""
        rng, book = self.rng, self.book
        k, side = rng.randrange(len(self.datas)), rng.choice([1, -1])
        what = rng.choice(["fill", "fill", "send", "send", "end", "gone", "back"])
        if what == "fill":
            part = book.part(book.instruments[k], rng.choice([ME, ME, OTHER]))
            book.fill(part, rng.choice([-part.size or 1.0, 2.0, -2.0]), 99.0, 0.0, 6.0)
        elif what == "send":
            self.orders += 1
            work(book, self.orders, side, 2.0, rng.choice([0.0, 2.0]), "market", index=k)
        elif what == "end" and book.working:
            book.drop(rng.choice(list(book.working)))
        elif what == "gone":
            book.gone[k, side] = True
        else:
            book.gone.clear()

    def decide(self, limit):
        one, side = self.rng.choice(self.book.instruments), self.rng.choice([1, -1])
        return limit.review(Request(one, side, 1.0, 100.0, 2.0), self.book)


def limits(seed):
    """Return the same limit twice: what it is asked must not matter to what it answers."""
    rng = random.Random(seed)
    given = dict(
        correlation_limit=rng.choice([0.3, 0.6, 0.9, 1.0]),
        window=WINDOW,
        min_periods=MIN_PERIODS,
        unknown=rng.choice(["refuse", "allow"]),
        estimator=rng.choice(["rolling"] * 4 + ["ledoit-wolf"]),
        hysteresis=rng.choice([0.0, 0.0, 0.0, 0.1]),
        downside=rng.choice([False, False, False, True]),
    )
    return CorrelationLimit(**given), CorrelationLimit(**given)


def decisions(seed, limit, tabled, monkeypatch):
    """Return the decisions of one world, and how many of them the table has made."""
    answered = []

    def counting(self, *args, all_within=Correlations.all_within):
        passes = tabled and all_within(self, *args)
        answered.append(passes)
        return passes

    world, answers = World(seed), []
    limit.prepare(world.book)
    with monkeypatch.context() as patched:
        patched.setattr(Correlations, "all_within", counting)
        for _ in range(24):
            world.bar()
            for _ in range(world.rng.choice([1, 6, 12])):
                world.change()
                answers.append(world.decide(limit))
    return answers, sum(answered)


def told(answers):
    """Return decisions in words; where a window lies in memory may change the last digits."""
    return [repr(replace(one, measured=round(one.measured, 12))) for one in answers]


@pytest.mark.parametrize("block", range(3))
def test_decisions_by_the_table_are_those_pair_by_pair(block, monkeypatch):
    tabled = refused = 0
    for seed in range(32 * block, 32 * block + 32):
        fast, plain = limits(seed)
        answers, by_table = decisions(seed, fast, True, monkeypatch)
        assert told(answers) == told(decisions(seed, plain, False, monkeypatch)[0]), seed
        tabled += by_table
        refused += sum(1 for one in answers if one.reason)
    assert tabled > 60
    assert refused > 500


def test_a_row_of_the_table_is_that_of_the_pairs():
    rng = np.random.default_rng(5)
    names = [f"N{k}" for k in range(11)]
    returns, rows = ReturnWindow(names, 20, 6), 0
    closes = np.full(len(names), 100.0)
    for time in range(90):
        closes = closes * np.exp(rng.normal(0.0, 0.01, len(names)) + rng.normal(0.0, 0.01))
        shown = closes.copy()
        if time < 30:
            shown[4] = NAN  # begins late
        shown[7] = 50.0  # stands still
        returns.update(float(time), shown)
        if time == 60:
            returns.blank(np.arange(len(names)) == 2)
        for _ in range(2):
            for one in range(len(names)):
                row = returns.row(one)
                if row is not None:
                    rows += 1
                    others = [k for k in range(len(names)) if k != one]
                    expected, _ = returns.correlations(one, others)
                    found = np.array(row)[others]
                    known = ~np.isnan(found)
                    assert np.abs(found[known] - expected[known]).max(initial=0.0) < 1e-12
                    assert not known[np.isnan(expected)].any()
    assert rows > 1000


def test_few_questions_of_a_bar_build_no_table():
    returns = ReturnWindow([f"N{k}" for k in range(100)], 20, 6)
    rng = np.random.default_rng(6)
    for time in range(30):
        returns.update(float(time), np.exp(rng.normal(0.0, 0.01, 100)))
        assert [returns.row(0) for _ in range(8)] == [None] * 8
    assert returns.row(0) is not None
    large = ReturnWindow([f"N{k}" for k in range(300)], 20, 6)
    for time in range(30):
        large.update(float(time), np.exp(rng.normal(0.0, 0.01, 300)))
    assert [large.row(0) for _ in range(600)] == [None] * 600
