"""The versions and the processor that the figures belong to."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["PACKAGES", "environment", "versions"]

PACKAGES = ("backtrader", "numpy", "pandas")
ALL = ("bt_risk", *PACKAGES, "TA-Lib", "arch", "litecharts", "pyfolio-reloaded", "numba")


def versions(packages=PACKAGES):
    """Return the versions of Python and of packages that are installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment():
    """Return versions, processor and cores; the paths of the machine are left out."""
    return {
        "versions": versions(ALL),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _processor():
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
