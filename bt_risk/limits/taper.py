"""Scale orders down while the account is in a drawdown."""

from bt_risk.limits.base import Decision, Limit

__all__ = ["Taper"]


class Taper(Limit):
    """Scale orders that no risk budget governs by what a tapering breaker leaves."""

    def review(self, request, book):
        """Return the `Decision` for `request`."""
        if request.budgeted or book.risk_scale >= 1.0:
            return Decision(request.size)
        reason = f"DrawdownBreaker: tapered to {book.risk_scale:.4f} of the size"
        size = request.size * book.risk_scale
        return Decision(size, reason, "DrawdownBreaker", book.risk_scale, 1.0)
