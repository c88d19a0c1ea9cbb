"""A progress bar of runs, in a terminal or a notebook."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

__all__ = ["progress"]


@contextmanager
def progress(total: int, done: int = 0, threaded: bool = True) -> Iterator[Callable[[], None]]:
    """Show a progress bar, and yield the function that advances it by one run.

    It is shown in a terminal, and in a notebook that has the widgets for it.

    Parameters
    ----------
    total, done : int
        Number of runs, and how many of them are done already.
    threaded : bool
        Whether a thread keeps its clock going. Without one it moves with each run, and the process
        can be forked meanwhile.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    shown = console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
    columns = (
        TextColumn("running"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    if not shown:  # rich 13 would print an empty line
        yield lambda: None
        return
    with Progress(*columns, console=console, transient=True, auto_refresh=threaded) as bar:
        task = bar.add_task("", total=total, completed=done)

        def step() -> None:
            bar.advance(task)
            if not threaded:
                bar.refresh()

        yield step
