"""The model of one run: every promise that can be checked against the book."""

from promises.safety.book import Order
from promises.safety.breaker import Breaker
from promises.safety.days import Days
from promises.safety.fills import Fills
from promises.safety.guards import Guards
from promises.safety.limits import Limits
from promises.safety.margin import Margin
from promises.safety.orders import Orders
from promises.safety.refusals import Refusals
from promises.safety.signals import Signals
from promises.safety.stops import Stops
from promises.safety.targets import Targets


class Model(
    Orders, Limits, Refusals, Fills, Stops, Targets, Breaker, Guards, Days, Margin, Signals
):
    """The book as Backtrader tells it, bar by bar."""

    def open_bar(self):
        self.bar, self.leaving_bar, self.opening = self.bar + 1, False, False
        self.cancels = set()
        self.new_bar_of_margin()

    def close_bar(self):
        """Compare positions, stops and breaker, before any trader acts on this bar."""
        if self.closed_bar == self.bar:
            return
        self.closed_bar = self.bar
        lengths = [self.length(index) for index in range(len(self.datas))]
        self.fresh = {i for i, length in enumerate(lengths) if self.lengths[i] != length}
        self.lengths = lengths
        if self.begun is None and all(lengths):
            self.begun = self.bar
        self.check_margin()
        for index in range(len(self.datas)):
            self._check_sum(index)
            for who in self.traders:
                self._check_stop(index, who)
                self._check_target(index, who)
        self._check_breaker()
        self._check_days()
        self.no_exits_inside()
        self.forget_relying()
        self.check_stranded()
        self.check_withdrawn()

    def _check_sum(self, index):
        total = sum(share.size for (i, _), share in self.shares.items() if i == index)
        if abs(total - self.net(index)) > 1e-6:
            self.breach("0 the model lost count", f"{total:g} is not {self.net(index):g}")

    def finish(self):
        """Check what only the end shows."""
        for key, count in self.fills.items():
            if self.delivered[key] != count:
                text = f"order {self.name(key[0])}: {self.delivered[key]} of {count}"
                self.breach("6 a fill was not notified once", text)
        for ref in self._rejected() - self.native_rejects:
            early = self.asked[ref].bar < self.bar
            heard = self.delivered[ref, Order.Rejected]
            if heard > 1 or early and heard != 1:
                self.breach("6 a rejection was not notified once", f"{heard} times")
        self._check_end()
