"""A live feed: rounds of the loop without a bar between its bars."""

import backtrader as bt


class LiveFrame(bt.feeds.PandasData):
    """Rows of a frame as a live feed brings them, with `idle` empty rounds after each bar."""

    params = (("idle", 6),)

    def islive(self):
        return True

    def start(self):
        super().start()
        self._wait = 0

    def _load(self):
        if self._wait:
            self._wait -= 1
            return None
        self._wait = self.p.idle
        return super()._load()
