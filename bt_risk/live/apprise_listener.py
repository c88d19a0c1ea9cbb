"""AppriseListener: send alerts to Telegram, Discord, Slack, e-mail and others by one URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bt_risk.errors import ParameterError

__all__ = ["AppriseListener", "listener_of"]


class AppriseListener:
    """Send each sentence to the service that a URL of apprise names, such as ``tgram://...``.

    The URL is checked at once; it is never shown, because it has a password in it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._service: Any = None  # made in the thread of the alerts: it cannot be pickled
        if _service(url) is None:
            raise ParameterError("Live", "notify", _URL, _hidden(url), _REMEDY)

    def __call__(self, sentence: str) -> None:
        """Send a sentence; RuntimeError if the service does not take it."""
        if self._service is None:
            self._service = _service(self.url)
        if not self._service.notify(body=sentence, title="bt_risk"):
            raise RuntimeError("the service has not taken the message")

    def __repr__(self) -> str:
        return f"AppriseListener({_hidden(self.url)!r})"


_URL = "a URL that apprise knows"
_REMEDY = "See https://github.com/caronc/apprise/wiki; for any other URL use bt_risk.webhook(url)."


def _service(url: str) -> Any:
    """Return apprise's object for a URL, None where it does not know the URL."""
    try:
        import apprise
    except ImportError as error:
        remedy = "pip install 'bt_risk[notify]'"
        constraint = "a callable, because apprise is not installed"
        raise ParameterError("Live", "notify", constraint, _hidden(url), remedy) from error
    return apprise.Apprise.instantiate(url, suppress_exceptions=True)


def _hidden(url: str) -> str:
    """Return a URL without what may be secret in it."""
    scheme, separator, _ = url.partition("://")
    return f"{scheme}://..." if separator else "..."


def listener_of(target: Any) -> Callable[[str], Any]:
    """Return a callable for one entry of `notify`: for itself, or for a URL of apprise."""
    if isinstance(target, str):
        return AppriseListener(target)
    if callable(target):
        found: Callable[[str], Any] = target
        return found
    constraint = "a URL, a callable that takes a sentence, or a list of them"
    raise ParameterError("Live", "notify", constraint, target)
