"""The 34 typical files: each is read to the right bars, or refused with a remedy that reads it."""

import pandas as pd
import pytest
from helpers.price_files import TYPICAL

from bt_risk.errors import DataError
from bt_risk.feeds.files import read_prices


def test_there_are_34():
    assert len(TYPICAL) == 34


@pytest.mark.parametrize("kind", TYPICAL)
def test_a_typical_file_is_read_right_or_refused_with_what_reads_it(tmp_path, kind):
    file, path = TYPICAL[kind], tmp_path / "prices.csv"
    content = file.content if isinstance(file.content, bytes) else file.content.encode()
    path.write_bytes(content)
    if file.refused:
        with pytest.raises(DataError) as caught:
            read_prices(path)
        assert file.refused.format(path=path) in str(caught.value)
        path.write_text(file.edited or file.content, encoding="utf-8")
    prices = read_prices(path, **file.options)
    assert list(prices.index) == [pd.Timestamp(time) for time in file.times]
    assert list(prices.columns) == ["open", "high", "low", "close", "volume"]
    assert prices.to_numpy().tolist() == [list(bar) for bar in file.bars]
    assert prices.attrs == {"format": file.format, "repairs": list(file.repairs)}


TEXTS = [one for one, file in TYPICAL.items() if isinstance(file.content, str) and not file.refused]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("kind", TEXTS)
def test_the_encoding_changes_nothing(tmp_path, kind, encoding):
    file, path = TYPICAL[kind], tmp_path / "prices.csv"
    path.write_bytes(file.content.removeprefix("\ufeff").encode(encoding))
    prices = read_prices(path)
    assert prices.to_numpy().tolist() == [list(bar) for bar in file.bars]
    assert list(prices.index) == [pd.Timestamp(time) for time in file.times]
