"""Risk controls for Backtrader: five rules as native components and as plain functions.

Every name is imported when it is first used; ``__init__.pyi`` lists them with their modules.
"""

from pathlib import Path

import lazy_loader

# The package by its name: btrun loads this file as a module of its own.
__getattr__, __dir__, _names = lazy_loader.attach_stub("bt_risk", __file__)
_modules = {path.stem for path in Path(__file__).parent.iterdir()} | {"observers"}
__all__ = [name for name in _names if name not in _modules]

__version__ = "0.1.0"
