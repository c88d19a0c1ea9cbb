"""Exposures added up instrument by instrument, as `Exposure` did before it took one pass."""

import math

from bt_risk.portfolio.exposure import Exposure


class OneByOne(Exposure):
    def of(self, instrument, side, unit):
        return sum([self._one(copy, side, unit) for copy in instrument.copies])

    def of_side(self, side, unit="risk"):
        return sum([self._one(instrument, side, unit) for instrument in self.live()])

    def gross(self, instrument, unit, names=None):
        total = 0.0
        for other in {live.copies[0].index: live for live in self.live()}.values():
            if other.root is instrument.root:
                continue
            if names is None or any(copy.name in names for copy in other.copies):
                total += _larger(self.of(other, 1, unit), self.of(other, -1, unit))
        return total

    def net(self, instrument, owner, side, unit):
        total = 0.0
        for other in self.live():
            total += self._one(other, side, unit)
            for part in other.parts:
                if other is not instrument or part.owner is not owner:
                    total -= self._held(part, -side, unit)
        return total


def _larger(one, other):
    return one + other if math.isnan(one) or math.isnan(other) else max(one, other)
