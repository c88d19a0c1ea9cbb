"""Read a page, for all tests of pages."""

import base64
import gzip
import html
import json
import re

ANGRY = "<b>A & 'B'</b></script>"  # the name of a data, as nobody should name one


def unpacked(text):
    """Return the data of a page that `bt_risk.report.packing.pack` has packed."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def figures_on(text):
    """Return the figures of a page by name, at full precision."""
    found = re.findall(r'data-figure="([^"]+)" data-value="([^"]+)"', text)
    return {html.unescape(name): float(value) for name, value in found}


def numbers(steps, unit):
    """Return numbers as the script of a page reads them: None is unknown."""
    total, found = 0, []
    for step in steps:
        total += step or 0
        found.append(None if step is None else total * unit)
    return found
