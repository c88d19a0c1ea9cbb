"""The exit statuses of the command; 0 is success."""

__all__ = ["BAD_INPUT", "RAISED", "REFUSED"]

REFUSED = 1  # by the run, or a check failed
RAISED = 1  # an error of the strategy, as of any script
BAD_INPUT = 2
