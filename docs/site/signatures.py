"""A griffe extension: show the parameters that a class takes, with the defaults it has.

The site reads docstrings without importing them. Backtrader's metaclasses make keyword arguments
out of ``params``, and settings inherit their fields: both are known only when bt_risk is imported.
"""

from inspect import Parameter, signature
from itertools import chain

import griffe

import bt_risk
from bt_risk import observers, report


class Signatures(griffe.Extension):
    """Give each public class the signature that a user calls it with."""

    def on_package(self, *, pkg, **kwargs):
        """Replace the signatures once the package is loaded."""
        if pkg.name != "bt_risk":
            return
        names = chain(
            (getattr(bt_risk, name) for name in bt_risk.__all__),
            (getattr(observers, name) for name in observers.__all__),
            (report.ReportData,),
        )
        for one in names:
            if isinstance(one, type) and not issubclass(one, Exception):
                _set_parameters(pkg, one, _parameters(one))


def _parameters(kind):
    """Return the parameters of a class: of a Backtrader object those that `params` names."""
    if hasattr(kind, "params") and hasattr(kind.params, "_getitems"):
        items = kind.params._getitems()
        return [Parameter(name, Parameter.KEYWORD_ONLY, default=value) for name, value in items]
    return list(signature(kind).parameters.values())


def _set_parameters(pkg, kind, parameters):
    path = f"{kind.__module__}.{kind.__qualname__}".removeprefix("bt_risk.")
    shown = [
        griffe.Parameter(
            one.name,
            kind=griffe.ParameterKind[one.kind.name.lower()],
            default=_default(one),
        )
        for one in parameters
    ]
    found = pkg[path]
    init = griffe.Function("__init__", parameters=griffe.Parameters(*shown), parent=found)
    found.set_member("__init__", init)


def _default(parameter):
    """Return the default as source, None for none."""
    value = parameter.default
    if value is Parameter.empty:
        return None
    return getattr(value, "__qualname__", None) or repr(value)
