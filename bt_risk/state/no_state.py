"""The state of a run that has no state file: nothing is saved, and nothing is restored."""

import math

__all__ = ["NoState"]


class NoState:
    """Answer for `Recovery` where there is no state file; it is false, and does nothing."""

    intended = None

    def __bool__(self):
        return False

    def begin_round(self):
        """Begin at once: there is nothing to restore."""

    def news(self, fresh, news):
        """Return `news` as they are."""
        return news

    # -- orders ----------------------------------------------------------------------------------

    def intend(self, request, size, own=False, opening=0.0, distance=math.nan):
        """Return that nothing failed."""
        return ""

    def sent(self, order):
        """Connect no intent with an order."""

    def name(self, order, client_id):
        """Save no id of an order."""

    def rename(self, ref, order):
        """Save no id of an order."""

    def executed(self, order, count, since):
        """Save no executions."""

    def save(self):
        """Return that nothing failed."""
        return ""

    def close(self):
        """Close no file."""

    # -- comparing with the broker ---------------------------------------------------------------

    def remembered(self, order):
        """Return None: no order has been saved."""
        return

    def skips(self, order):
        """Return 0: no execution has been booked before."""
        return 0

    def unsettled(self, fresh):
        """Return the instruments whose first bar has come."""
        return fresh

    def settle(self, instrument):
        """Return that there is nothing to settle."""
        return True
