"""The bytes of a text file, unpacked; what is no text of bars is refused by its first bytes."""

import gzip
import re
import zipfile
from pathlib import Path

from bt_risk.errors import DataError

__all__ = ["text_bytes"]

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
# MetaTrader and Stooq write names as <DATE>.
WEB_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE)
JSON = re.compile(rb"\s*[\[{]")


def text_bytes(path: Path) -> bytes:
    """Return the bytes of the text in a file, which may be packed by gzip or zip."""
    content = path.read_bytes()
    if content.startswith(ZIP):
        content = _member(path)
    elif content.startswith(GZIP) or path.suffix.lower() == ".gz":
        content = gzip.decompress(content)
    if WEB_PAGE.match(content):
        raise DataError(
            f"read_prices: {path} is a web page, and no file of prices. Download the file in a "
            f"browser: the site may ask for a login."
        )
    if JSON.match(content):
        raise DataError(
            f"read_prices: {path} is JSON. Save its bars as CSV: "
            f"pandas.DataFrame(json.load(open(...))).to_csv(...)."
        )
    return content


def _member(path: Path) -> bytes:
    """Return the bytes of the one file in a zip archive."""
    with zipfile.ZipFile(path) as archive:
        names = [one.filename for one in archive.infolist() if not one.is_dir()]
        if any(name.startswith("xl/") for name in names):
            raise DataError(
                f"read_prices: {path} is an Excel workbook. Save the sheet with the prices as CSV."
            )
        names = [name for name in names if not name.startswith("__MACOSX/")]
        if len(names) != 1:
            raise DataError(
                f"read_prices: {path} must hold one file; got {len(names)} "
                f"({', '.join(names[:5])}). Unpack it, and read each."
            )
        return archive.read(names[0])
