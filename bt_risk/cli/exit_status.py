"""The exit statuses of the command; 0 is success."""

__all__ = ["BAD_INPUT", "REFUSED"]

REFUSED = 1  # by the run, or a check failed
BAD_INPUT = 2
