"""Imitate a live feed: the loop has rounds without a new bar."""

from helpers.frames import PandasData


class LiveFrame(PandasData):
    """Bring the rows of a frame as a live feed does, with `idle` empty rounds after each bar."""

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
