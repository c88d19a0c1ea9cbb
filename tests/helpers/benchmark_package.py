"""Load a module of ``benchmarks/``, which is a package of the repository and is not installed."""

import importlib
import importlib.util
import sys

from helpers.shared_data import ROOT


def load(name):
    """Return the module ``benchmarks.name``; the folder of the repository stays out of sys.path.

    With it there, ``bt_risk`` could be the folder beside it instead of what is installed.
    """
    if "benchmarks" not in sys.modules:
        folder = ROOT / "benchmarks"
        spec = importlib.util.spec_from_file_location(
            "benchmarks", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        package = sys.modules["benchmarks"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)
    return importlib.import_module(f"benchmarks.{name}")
