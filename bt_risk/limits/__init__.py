"""Judges that are asked before an order is sent: ``review(request, book) -> Decision``."""
