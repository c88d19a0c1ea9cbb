"""The 34 typical files of vendors, platforms and spreadsheets, with made-up prices."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field

__all__ = ["BARS", "DAYS", "HEAD", "HOURS", "ROWS", "TYPICAL", "PriceFile"]

DAYS = ("2024-01-30", "2024-01-31")
HOURS = ("2024-01-30 09:00", "2024-01-30 10:00")
HEAD = "Date,Open,High,Low,Close,Volume\n"
ROWS = "2024-01-30,10,12,9,11,1000\n2024-01-31,11,13,10,12,2000\n"
BARS = ((10, 12, 9, 11, 1000), (11, 13, 10, 12, 2000))  # open, high, low, close, volume
TURNED = "turned the rows round: the file has the newest first"


@dataclass(frozen=True)
class PriceFile:
    """A file, and what it must be read as.

    Parameters
    ----------
    content : str or bytes
        What the file holds; text is written in UTF-8.
    times : tuple of str
        Times of the bars, UTC.
    format : str
        The kind of file that it is recognised as.
    bars : tuple of tuple
        Open, high, low, close and volume of each bar.
    repairs : tuple of str
        What is repaired and said.
    refused : str
        What the refusal says, with its remedy; empty where the file is read as it is.
    options : dict
        What that remedy tells the caller to give.
    edited : str
        What that remedy tells the caller to make of the file.
    """

    content: str | bytes
    times: tuple[str, ...]
    format: str = "columns with names"
    bars: tuple[tuple[float, ...], ...] = BARS
    repairs: tuple[str, ...] = ()
    refused: str = ""
    options: dict[str, str] = field(default_factory=dict)
    edited: str = ""


def _zip(name: str, text: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, text)
    return packed.getvalue()


KLINES = (
    "1706605200000,10,12,9,11,1000,1706608799999,1,1,1,1,0\n"
    "1706608800000,11,13,10,12,2000,1706612399999,1,1,1,1,0\n"
)
BARE = "Binance klines without names"
CCXT = "ccxt or HistData, without names"

TYPICAL = {
    "Yahoo, a download": PriceFile(
        "Date,Open,High,Low,Close,Adj Close,Volume\n"
        "2024-01-30,10,12,9,11,5.5,1000\n2024-01-31,11,13,10,12,6,2000\n",
        DAYS,
        "Yahoo",
    ),
    "yfinance, two rows of names": PriceFile(
        "Price,Close,High,Low,Open,Volume\nTicker,ABC,ABC,ABC,ABC,ABC\nDate,,,,,\n"
        "2024-01-30,11,12,9,10,1000\n2024-01-31,12,13,10,11,2000\n",
        DAYS,
        "yfinance",
    ),
    "yfinance, hours of an exchange": PriceFile(
        "Price,Adj Close,Close,High,Low,Open,Volume\nTicker,ABC,ABC,ABC,ABC,ABC,ABC\n"
        "Datetime,,,,,,\n2024-01-30 04:00:00-05:00,5.5,11,12,9,10,1000\n"
        "2024-01-30 05:00:00-05:00,6,12,13,10,11,2000\n",
        HOURS,
        "yfinance",
    ),
    "yfinance, grouped by ticker": PriceFile(
        "Ticker,ABC,ABC,ABC,ABC,ABC\nPrice,Open,High,Low,Close,Volume\nDate,,,,,\n" + ROWS,
        DAYS,
        "yfinance",
    ),
    "Binance klines": PriceFile(KLINES, HOURS, BARE),
    "Binance klines of 2025, microseconds": PriceFile(
        "1735722000000000,10,12,9,11,1000,1735725599999999,1,1,1,1,0\n"
        "1735725600000000,11,13,10,12,2000,1735729199999999,1,1,1,1,0\n",
        ("2025-01-01 09:00", "2025-01-01 10:00"),
        BARE,
    ),
    "Binance klines with names": PriceFile(
        "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
        "taker_buy_quote_volume,ignore\n" + KLINES,
        HOURS,
        "Binance klines",
    ),
    "Binance klines as packed": PriceFile(_zip("ABCUSDT-1h-2024-01.csv", KLINES), HOURS, BARE),
    "ccxt, saved by pandas": PriceFile(
        "0,1,2,3,4,5\n1706605200000,10.0,12.0,9.0,11.0,1000.0\n"
        "1706608800000,11.0,13.0,10.0,12.0,2000.0\n",
        HOURS,
        CCXT,
    ),
    "ccxt, saved by pandas with its index": PriceFile(
        ",0,1,2,3,4,5\n0,1706605200000,10.0,12.0,9.0,11.0,1000.0\n"
        "1,1706608800000,11.0,13.0,10.0,12.0,2000.0\n",
        HOURS,
        CCXT,
    ),
    "CryptoDataDownload": PriceFile(
        "https://www.CryptoDataDownload.com\n"
        "Unix,Date,Symbol,Open,High,Low,Close,Volume USDT,Volume ABC,tradecount\n"
        "1706608800000,2024-01-30 10:00:00,ABC/USDT,11,13,10,12,9,2000,4\n"
        "1706605200000,2024-01-30 09:00:00,ABC/USDT,10,12,9,11,8,1000,3\n",
        HOURS,
        "CryptoDataDownload",
        repairs=(TURNED,),
    ),
    "CryptoDataDownload, older": PriceFile(
        "https://www.CryptoDataDownload.com\n"
        "Date,Symbol,Open,High,Low,Close,Volume ABC,Volume USD\n"
        "2024-01-30 10-AM,ABCUSD,11,13,10,12,2000,9\n2024-01-30 09-AM,ABCUSD,10,12,9,11,1000,8\n",
        HOURS,
        repairs=(TURNED,),
    ),
    "MetaTrader 4": PriceFile(
        "2024.01.30,09:00,10,12,9,11,1000\n2024.01.30,10:00,11,13,10,12,2000\n",
        HOURS,
        "MetaTrader 4",
    ),
    "MetaTrader 5": PriceFile(
        "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
        "2024.01.30\t09:00:00\t10\t12\t9\t11\t1000\t0\t5\n"
        "2024.01.30\t10:00:00\t11\t13\t10\t12\t2000\t0\t5\n",
        HOURS,
        "MetaTrader 5",
    ),
    "MetaTrader 5, days": PriceFile(
        "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
        "2024.01.30\t10\t12\t9\t11\t1000\t0\t5\n2024.01.31\t11\t13\t10\t12\t2000\t0\t5\n",
        DAYS,
        "MetaTrader 5",
    ),
    "Polygon": PriceFile(
        "ticker,volume,open,close,high,low,window_start,transactions\n"
        "ABC,1000,10,11,12,9,1706605200000000000,7\nABC,2000,11,12,13,10,1706608800000000000,8\n",
        HOURS,
        "Polygon",
    ),
    "Alpaca": PriceFile(
        "t,o,h,l,c,v,n,vw\n2024-01-30T09:00:00Z,10,12,9,11,1000,7,11\n"
        "2024-01-30T10:00:00Z,11,13,10,12,2000,8,12\n",
        HOURS,
        "Alpaca",
    ),
    "Alpaca, a frame": PriceFile(
        "symbol,timestamp,open,high,low,close,volume,trade_count,vwap\n"
        "ABC,2024-01-30 09:00:00+00:00,10,12,9,11,1000,7,11\n"
        "ABC,2024-01-30 10:00:00+00:00,11,13,10,12,2000,8,12\n",
        HOURS,
        "Alpaca",
    ),
    "Alpha Vantage": PriceFile(
        "timestamp,open,high,low,close,volume\n"
        "2024-01-31,11,13,10,12,2000\n2024-01-30,10,12,9,11,1000\n",
        DAYS,
        "Alpha Vantage",
        repairs=(TURNED,),
    ),
    "Alpha Vantage, by its package": PriceFile(
        "date,1. open,2. high,3. low,4. close,5. volume\n"
        "2024-01-31,11.0,13.0,10.0,12.0,2000.0\n2024-01-30,10.0,12.0,9.0,11.0,1000.0\n",
        DAYS,
        repairs=(TURNED,),
    ),
    "Nasdaq": PriceFile(
        "Date,Close/Last,Volume,Open,High,Low\n01/31/2024,$12.00,2000,$11.00,$13.00,$10.00\n"
        "01/30/2024,$11.00,1000,$10.00,$12.00,$9.00\n",
        DAYS,
        "Nasdaq",
        repairs=(TURNED,),
    ),
    "Investing.com": PriceFile(
        '\ufeff"Date","Price","Open","High","Low","Vol.","Change %"\n'
        '"01/31/2024","12.00","11.00","13.00","10.00","2.00K","9.09%"\n'
        '"01/30/2024","11.00","10.00","12.00","9.00","0.001M","0.1%"\n',
        DAYS,
        "Investing.com",
        repairs=(TURNED,),
    ),
    "Investing.com, thousands": PriceFile(
        '"Date","Price","Open","High","Low","Vol.","Change %"\n'
        '"01/31/2024","1,200.50","1,100.00","1,300.00","1,000.00","2.50B","9.14%"\n'
        '"01/30/2024","1,100.00","1,000.00","1,200.00","900.25","1.25B","-0.10%"\n',
        DAYS,
        "Investing.com",
        ((1000, 1200, 900.25, 1100, 1.25e9), (1100, 1300, 1000, 1200.5, 2.5e9)),
        (TURNED,),
    ),
    "Interactive Brokers, with a zone": PriceFile(
        "date,open,high,low,close,volume,average,barCount\n"
        "20240130 04:00:00 US/Eastern,10,12,9,11,1000,11,7\n"
        "20240130 05:00:00 US/Eastern,11,13,10,12,2000,12,8\n",
        HOURS,
    ),
    "Stooq": PriceFile(
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
        "ABC.US,60,20240130,090000,10,12,9,11,1000,0\n"
        "ABC.US,60,20240130,100000,11,13,10,12,2000,0\n",
        HOURS,
        "Stooq",
    ),
    "a decimal comma": PriceFile(
        "Date;Open;High;Low;Close;Volume\n30.01.2024;10,5;12,25;9,75;11,5;1000\n"
        "31.01.2024;11,5;13,25;10,75;12,5;2000\n",
        DAYS,
        bars=((10.5, 12.25, 9.75, 11.5, 1000), (11.5, 13.25, 10.75, 12.5, 2000)),
    ),
    "UTF-16": PriceFile((HEAD + ROWS).replace(",", "\t").encode("utf-16"), DAYS),
    "Excel": PriceFile(
        "\ufeffsep=;\r\nDatum;Open;High;Low;Close;Volume\r\n"
        "30.01.2024;10,00;12,00;9,00;11,00;1.000\r\n31.01.2024;11,00;13,00;10,00;12,00;2.000\r\n",
        DAYS,
    ),
    "Excel, thousands in the volume": PriceFile(
        'Date,Open,High,Low,Close,Volume\r\n1/30/2024,10.00,12.00,9.00,11.00,"1,000"\r\n'
        '1/31/2024,11.00,13.00,10.00,12.00,"2,000"\r\n',
        DAYS,
    ),
    "a row that is there twice": PriceFile(
        HEAD + ROWS + ROWS.splitlines()[1],
        DAYS,
        repairs=("left out rows that repeat a whole row: 1 (the first is line 4)",),
    ),
    "Yahoo, a row of null": PriceFile(
        "Date,Open,High,Low,Close,Adj Close,Volume\n2024-01-30,10,12,9,11,5.5,1000\n"
        "2024-01-31,null,null,null,null,null,null\n2024-02-01,11,13,10,12,6,2000\n",
        ("2024-01-30", "2024-02-01"),
        "Yahoo",
        repairs=("left out rows without any price: 1 (the first is line 3)",),
    ),
    "a date that can be two": PriceFile(
        HEAD + ROWS.replace("2024-01-30", "01/02/2024").replace("2024-01-31", "02/02/2024"),
        ("2024-02-01", "2024-02-02"),
        refused="got '01/02/2024' in line 2 of {path}. Give format='%d/%m/%Y' or '%m/%d/%Y'",
        options={"format": "%d/%m/%Y"},
    ),
    "a comma that can be both": PriceFile(
        "Date;Open;High;Low;Close;Volume\n"
        "2024-01-30;1,000;1,200;0,900;1,100;1000\n2024-01-31;1,100;1,300;1,000;1,200;2000\n",
        DAYS,
        bars=((1, 1.2, 0.9, 1.1, 1000), (1.1, 1.3, 1, 1.2, 2000)),
        refused="got '1,000' in line 2 of {path}, which can be both. Give decimal=',' or",
        options={"decimal": ","},
    ),
    "a price of zero": PriceFile(
        HEAD + ROWS + "2024-02-01,12,14,0,13,3000\n",
        DAYS,
        refused="low must be above zero; got 0.0 in line 4 (2024-02-01 00:00:00) of {path}. "
        "A missing price is not a price of zero: remove the row.",
        edited=HEAD + ROWS,
    ),
}
