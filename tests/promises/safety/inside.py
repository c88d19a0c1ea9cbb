"""The worst of an account inside the bars that have just closed."""

import math

from promises.safety.book import Book


class Inside(Book):
    """Add up what is held at the worst of its bars: longs at the low, shorts at the high."""

    def no_exits_inside(self):
        """Begin with a bar in which no limit has closed anything."""
        self.left_inside = []

    def limit_filled(self, index, size, price):
        """Take down what a limit may have closed: it may have been worth less before."""
        self.left_inside.append((index, size, price))

    def worst_inside(self):
        """Return by how much equity was lower than at the closes: surely, and at the most."""
        surely = 0.0
        for (index, _), share in self.shares.items():
            close = self.last_close(index)
            if share.size and index in self.fresh and close == close:
                surely += self._loss(index, share.size, close)
        left = sum(self._loss(*one) for one in self.left_inside if one[0] in self.fresh)
        return surely, surely + left

    def _loss(self, index, size, price):
        _, _, high, low, close, _ = self.tables[index][len(self.datas[index]) - 1]
        extreme = min(low, close) if size > 0 else max(high, close)
        loss = size * (extreme - price) * self.mult(index)
        return min(0.0, loss) if math.isfinite(loss) else 0.0
