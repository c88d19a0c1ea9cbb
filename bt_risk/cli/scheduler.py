"""The option that names a Dask scheduler, and a client of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from bt_risk.errors import ParameterError

__all__ = ["Scheduler", "client_of"]

Scheduler = Annotated[
    str | None, typer.Option(help="Address of a Dask scheduler, whose workers run the points.")
]


@contextmanager
def client_of(component: str, address: str | None) -> Iterator[Any]:
    """Yield a client of a Dask scheduler; None without an address."""
    if address is None:
        yield None
        return
    if find_spec("distributed") is None:
        remedy = "pip install 'bt_risk[dask]'"
        raise ParameterError(component, "--scheduler", "left out without dask", address, remedy)
    from distributed import Client

    with Client(address) as client:
        yield client
