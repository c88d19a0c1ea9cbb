"""Write a page: one HTML file that has its style, its scripts and its data inside."""

import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import litecharts

__all__ = ["format_number", "write_page"]

SCRIPTS = ("charts.js", "prices.js", "journal.js", "page.js")


def write_page(path: Path, template: str, context: dict[str, Any]) -> Path:
    """Render a template of this folder with the style and scripts of every page; return the path.

    The library of the charts is read out of the package `litecharts`, which carries that of
    TradingView unchanged.
    """
    common = {
        "library": litecharts.getLwcScript(),
        "style": _asset("page.css"),
        "scripts": [_asset(name) for name in SCRIPTS],
    }
    text = _environment().get_template(template).render(common | context)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def format_number(value: float, form: str) -> str:
    """Return a number as text, a dash where there is none."""
    return form.format(value) if math.isfinite(value) else "-"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: format_number(value, "{:,.2%}")
    environment.filters["whole_percent"] = lambda value: format_number(value, "{:,.0%}")
    environment.filters["ratio"] = lambda value: format_number(value, "{:.2f}")
    environment.filters["number"] = lambda value: "-" if value is None else f"{value:,.7g}"
    return environment


def _asset(name: str) -> str:
    return files("bt_risk.report").joinpath(name).read_text(encoding="utf-8")
