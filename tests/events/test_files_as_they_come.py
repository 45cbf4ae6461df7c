"""Files as they come, of every kind that went wrong somewhere: what is read of each, what is left out, and what stops.

One table: a file and what is expected of it. A file says only what is odd about it; all else is as usual.
"""

import csv as csv_files
import gzip
import io
import json
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import zstandard

from sentinel.errors import DataProblem
from sentinel.events.files import read_history
from sentinel.events.reading import Dialect, Reading
from sentinel.events.schema import Schema

SCHEMA = Schema(
    keys=("card", "shop"), categories=("mcc",), numbers=("risk",), optional=("mcc", "risk"), exact={"points": 0},
)  # fmt: skip
US_DATES = Reading(time_format="%m/%d/%Y %H:%M")
MADRID = Reading(timezone="Europe/Madrid")


def usual(n):
    return {
        "transaction_id": f"t{n}",
        "event_time": f"2026-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z",
        "amount": "10.00", "points": "1", "card": "c1", "shop": "m1", "mcc": "5411", "risk": "0.5", "is_fraud": "0",
    }  # fmt: skip


def rows_of(columns):
    n = max(len(one) for one in columns.values())
    rows = [usual(i) | {name: cells[i] for name, cells in columns.items()} for i in range(n)]
    return [{name: cell for name, cell in row.items() if cell is not ...} for row in rows]


def csv(
    name="x.csv", *, encoding="utf-8", end="\n", separator=",", pack=None, quote=csv_files.QUOTE_MINIMAL, **columns
):
    written = io.StringIO()
    writer = csv_files.writer(written, delimiter=separator, lineterminator=end, quoting=quote)
    rows = rows_of(columns)
    writer.writerow(rows[0])
    writer.writerows(["" if cell is None else cell for cell in row.values()] for row in rows)
    raw = written.getvalue().encode(encoding)
    return {name: pack(raw) if pack else raw}


def lines(name="x.jsonl", *, encoding="utf-8", pack=None, **columns):
    numbers = {"amount": 10.0, "points": 1, "risk": 0.5, "is_fraud": 0}
    rows = [{key: numbers[key] if key in numbers and key not in columns else cell for key, cell in row.items()} for row in rows_of(columns)]  # fmt: skip
    raw = "\n".join(map(json.dumps, rows)).encode(encoding)
    return {name: pack(raw) if pack else raw}


def raw_lines(*changes, name="x.jsonl"):
    """Usual objects with some text put in the place of other text."""
    usual_line = json.dumps({"transaction_id": "t0", "event_time": "2026-01-01T00:00:00Z", "amount": 10.0, "points": 1, "card": "c1", "shop": "m1"})  # fmt: skip
    made = [usual_line.replace('"t0"', f'"t{n}"').replace(*change) for n, change in enumerate(changes)]
    return {name: "\n".join(made).encode()}


def parquet(name="x.parquet", **columns):
    n = max(len(one) for one in columns.values())
    kinds = {"amount": float, "points": int, "risk": float, "is_fraud": int}
    frame = {key: [kinds[key](usual(i)[key]) if key in kinds else usual(i)[key] for i in range(n)] for key in usual(0)}
    written = io.BytesIO()
    pl.DataFrame(frame | columns).write_parquet(written)
    return {name: written.getvalue()}


def text(content, name="x.csv"):
    return {name: content if isinstance(content, bytes) else content.encode()}


class Case(NamedTuple):
    """A file, or several of a folder, and what is read: values of columns, and how many rows are left out for what reason.

    Or the words with which it stops.
    """

    kind: str
    files: dict[str, bytes]
    keeps: dict[str, list] | None = None
    left: dict[str, int] | None = None
    stops: str | None = None
    reading: Reading = Reading()
    schema: Schema = SCHEMA


def reads(kind, files, left=None, reading=None, schema=SCHEMA, **keeps):
    return Case(kind, files, keeps, left or {}, None, reading or Reading(), schema)


def stops(kind, files, words, reading=None, schema=SCHEMA):
    return Case(kind, files, None, {}, words, reading or Reading(), schema)


HEAD = "transaction_id,event_time,amount,points,card,shop\n"
ROW = "t0,2026-01-01,10,1,c1,m1\n"
LATE = [*("4711" for _ in range(10_050)), "K4711"]
NO_TEXT, NO_NUMBER, NO_TIME = "no text or whole number", "no number", "no time from 1970"
zst = zstandard.ZstdCompressor().compress

CASES = {
    # ids, keys, categories and labels are texts from the first byte
    "leading zeros": reads("texts", csv(card=["0012", "007", "12"]), card=["0012", "007", "12"]),
    "leading zeros of ids": reads("texts", csv(transaction_id=["001", "01", "1"]), transaction_id=["001", "01", "1"]),
    "leading zeros of a category": reads("texts", csv(mcc=["0742", "742"]), mcc=["0742", "742"]),
    "leading zeros in parquet": reads("texts", parquet(mcc=["0742", "742"]), mcc=["0742", "742"]),
    "leading zeros in JSON": reads("texts", lines(card=["0012", "12"]), card=["0012", "12"]),
    "texts like exponents": reads("texts", csv(transaction_id=["12e4567", "1e10", "10000000000"]), transaction_id=["12e4567", "1e10", "10000000000"]),
    "texts like hexadecimal": reads("texts", csv(card=["0x1F", "1F", "31"]), card=["0x1F", "1F", "31"]),
    "texts like decimals": reads("texts", csv(card=["1.0", "1", "1.00"]), card=["1.0", "1", "1.00"]),
    "texts like booleans": reads("texts", csv(card=["true", "True", "1"]), card=["true", "True", "1"]),
    "texts like dates": reads("texts", csv(shop=["2026-01-01", "1/2", "Jan-1"]), shop=["2026-01-01", "1/2", "Jan-1"]),
    "texts like nothing": reads("texts", csv(card=["NULL", "N/A", "nan", "None"]), card=["NULL", "N/A", "nan", "None"]),
    "signs and blanks stay": reads("texts", csv(card=["+1", "-1", " 1", "1 "]), card=["+1", "-1", " 1", "1 "]),
    "longer than 64 bits": reads("texts", csv(card=["99999999999999999999", "099999999999999999999"]), card=["99999999999999999999", "099999999999999999999"]),
    "infinity is a name": reads("texts", csv(card=["inf", "-inf", "1e999"]), card=["inf", "-inf", "1e999"]),
    "numbers as ids in JSON": reads("texts", lines(card=[12, "0012", 18446744073709551615]), card=["12", "0012", "18446744073709551615"]),
    "categories of polars": reads("texts", parquet(card=pl.Series(["007", "7"], dtype=pl.Categorical)), card=["007", "7"]),
    # what looks like one kind for a long time and then is another
    "letters after ten thousand rows": reads("late letters", csv(card=LATE), card=LATE),
    "letters in ids": reads("late letters", csv(transaction_id=[str(i) for i in range(10_050)] + ["A1"]), transaction_id=[str(i) for i in range(10_050)] + ["A1"]),
    "letters in a category": reads("late letters", csv(mcc=LATE), mcc=LATE),
    "letters in JSON": reads("late letters", lines(card=[1] * 500 + ["x"]), card=["1"] * 500 + ["x"]),
    "a decimal after whole numbers": reads("late letters", csv(amount=["10"] * 10_050 + ["12.75"]), amount=[10.0] * 10_050 + [12.75]),
    "an exponent after whole numbers": reads("late letters", csv(risk=["1"] * 10_050 + ["2.5e-1"]), risk=[1.0] * 10_050 + [0.25]),
    "a word among numbers": reads("late letters", csv(risk=["1"] * 10_050 + ["low"]), {f"risk is {NO_NUMBER}": 1}, risk=[1.0] * 10_050),
    "a value after empty cells": reads("late letters", csv(mcc=[None] * 10_050 + ["5411"]), mcc=[None] * 10_050 + ["5411"]),
    "a number after empty cells": reads("late letters", csv(risk=[None] * 10_050 + ["0.25"]), risk=[None] * 10_050 + [0.25]),
    "zeros lead late": reads("late letters", csv(card=["12"] * 10_050 + ["0012"]), card=["12"] * 10_050 + ["0012"]),
    "a Unix time after dates": reads("late letters", csv(event_time=["2025-01-01"] * 300 + ["1767225600"]), event_time=[1735689600000000] * 300 + [1767225600000000]),
    "another label word late": reads("late letters", csv(is_fraud=["0"] * 10_050 + ["yes"]), is_fraud=[0] * 10_050 + [1]),
    # fields of JSON lines that are not in the first of them
    "a late field": reads("late fields", lines(risk=[...] * 100 + [0.25]), risk=[None] * 100 + [0.25]),
    "a late text": reads("late fields", lines(mcc=[...] * 900 + ["0742"]), mcc=[None] * 900 + ["0742"]),
    "null at first": reads("late fields", lines(risk=[None] * 100 + [0.25]), risk=[None] * 100 + [0.25]),
    "null at first, a text": reads("late fields", lines(mcc=[None] * 2000 + ["a"]), mcc=[None] * 2000 + ["a"]),
    "a field that comes and goes": reads("late fields", lines(risk=[0.5, ..., 0.25, ...]), risk=[0.5, None, 0.25, None]),
    "whole, then decimal": reads("late fields", lines(amount=[10] * 100 + [12.75]), amount=[10.0] * 100 + [12.75]),
    "a label that comes late": reads("late fields", lines(is_fraud=[...] * 100 + [1]), is_fraud=[None] * 100 + [1]),
    "a key that is not in each": reads("late fields", lines(card=["a", ..., "b"]), {"card is missing": 1}, card=["a", "b"]),
    "an amount that is not in each": reads("late fields", lines(amount=[1.0, ..., None]), {"amount is missing": 2}, amount=[1.0]),
    "further fields stay where they are": reads("late fields", lines(risk=[0.5, 0.5], note=[..., "x"]) , risk=[0.5, 0.5]),
    "blank lines are none": reads("late fields", {"x.jsonl": lines(card=["a"])["x.jsonl"] + b"\n\n  \n"}, card=["a"]),
    "order of names": reads("late fields", {"x.jsonl": lines(card=["a"])["x.jsonl"] + b'\n{"shop": "s", "card": "b", "points": 2, "amount": 1.5, "event_time": "2026-01-02", "transaction_id": "z"}'}, card=["a", "b"], amount=[10.0, 1.5]),
    # what the live service would refuse is left out
    "an empty key": reads("as live", lines(card=["", "c"]), {"card is missing": 1}, card=["c"]),
    "an object for a text": stops("as live", lines(card=[{"id": "c1"}]), f"card is {NO_TEXT}.*row 1"),
    "a list for a text": reads("as live", lines(card=[["c1"], "c"]), {f"card is {NO_TEXT}": 1}, card=["c"]),
    "a boolean for a key": reads("as live", lines(card=[True, "c"]), {f"card is {NO_TEXT}": 1}, card=["c"]),
    "a boolean for a category": reads("as live", lines(mcc=[True, False]), mcc=["true", "false"]),
    "a decimal for a key": reads("as live", lines(card=[1.5, 2]), {f"card is {NO_TEXT}": 1}, card=["2"]),
    "a text for an amount": reads("as live", lines(amount=["10", 10]), {f"amount is {NO_NUMBER}": 1}, amount=[10.0]),
    "a boolean for an amount": reads("as live", lines(amount=[True, 1]), {f"amount is {NO_NUMBER}": 1}, amount=[1.0]),
    "a name twice": stops("as live", raw_lines(('"amount": 10.0', '"amount": 1, "amount": 1000')), "it has a name twice"),
    "a name twice, far inside": reads("as live", raw_lines(("}", ', "mcc": "1", "mcc": "2"}'), ("x", "x")), {"it has a name twice": 1}, card=["c1"]),
    "no JSON": reads("as live", {"x.jsonl": lines(card=["a"])["x.jsonl"] + b"\n{oops\n[1]\n7"}, {"it is no JSON object": 3}, card=["a"]),
    "nested deeper than is read": reads("as live", raw_lines(*(("}", f', "a": 1, "a": 2, "x": {"[" * n}{"]" * n}}}') for n in range(840, 1_010)), ("x", "x")), {"it ": 170}, card=["c1"]),
    "a negative amount": reads("as live", csv(amount=["-1", "1"]), {"amount is outside": 1}, amount=[1.0]),
    "an amount beyond all": reads("as live", csv(amount=["1e11", "1"]), {"amount is outside": 1}, amount=[1.0]),
    "beyond what a model takes": reads("as live", csv(risk=["1e39", "1e38"]), {"risk is outside": 1}, risk=[1e38]),
    "infinite": reads("as live", parquet(risk=[float("inf"), 0.5]), {f"risk is {NO_NUMBER}": 1}, risk=[0.5]),
    "an id that is too long": reads("as live", csv(transaction_id=["x" * 129, "x" * 128]), {"longer than 128": 1}, transaction_id=["x" * 128]),
    "a key that is too long": reads("as live", csv(card=["ä" * 257, "ä" * 256]), {"longer than 256": 1}, card=["ä" * 256]),
    # times
    "a date as a text of digits": reads("times", lines(event_time=["20260131", "20260201"]), event_time=[1769817600000000, 1769904000000000]),
    "a date as a number": stops("times", lines(event_time=[20260131]), f"{NO_TIME}.*20260131"),
    "days of a spreadsheet": stops("times", lines(event_time=[46053.5]), f"{NO_TIME}.*46053.5"),
    "days of a spreadsheet in CSV": stops("times", csv(event_time=["46053.5"]), f"{NO_TIME}.*46053.5"),
    "Unix seconds as text": reads("times", csv(event_time=["1769860800"]), event_time=[1769860800000000]),
    "Unix milliseconds as text": reads("times", csv(event_time=["1769860800123"]), event_time=[1769860800123000]),
    "Unix microseconds as text": reads("times", csv(event_time=["1769860800123456"]), event_time=[1769860800123456]),
    "nine digits are no time": reads("times", csv(event_time=["320000000", "2026-01-01"]), {NO_TIME: 1}, event_time=[1767225600000000]),
    "nine digits as a number": reads("times", lines(event_time=[320000000]), event_time=[320000000000000]),
    "digits of other scripts": stops("times", lines(event_time=["²"]), NO_TIME),
    "one digit": stops("times", lines(event_time=["1"]), NO_TIME),
    "2099": reads("times", csv(event_time=["2099-01-01", "2026-01-01"]), {"more than a day ahead": 1}, event_time=[1767225600000000]),
    "year 9999": reads("times", csv(event_time=["9999-12-31", "2026-01-01"]), {NO_TIME: 1}, event_time=[1767225600000000]),
    "before 1970": reads("times", parquet(event_time=pl.Series([datetime(1960, 1, 1), datetime(2026, 1, 1)])), {NO_TIME: 1}, event_time=[1767225600000000]),
    "no such day": reads("times", csv(event_time=["2026-02-30", "2026-02-28"]), {NO_TIME: 1}, event_time=[1772236800000000]),
    "without an offset it is UTC": reads("times", csv(event_time=["2025-07-01 12:00:00"]), event_time=[1751371200000000]),
    "in summer of a zone": reads("times", csv(event_time=["2025-07-01 12:00:00"]), reading=MADRID, event_time=[1751364000000000]),
    "in winter of a zone": reads("times", csv(event_time=["2025-01-01 12:00:00"]), reading=MADRID, event_time=[1735729200000000]),
    "the hour that comes twice": reads("times", csv(event_time=["2025-10-26 02:30:00", "2025-10-26T02:30:00+01:00"]), reading=MADRID, event_time=[1761438600000000, 1761442200000000]),
    "an offset counts in any zone": reads("times", csv(event_time=["2025-07-01T12:00:00Z"]), reading=MADRID, event_time=[1751371200000000]),
    "US dates": reads("times", csv(event_time=["01/02/2026 09:30", "12/31/2025 23:59"]), reading=US_DATES, event_time=[1767225540000000, 1767346200000000]),
    "US dates, unsaid": stops("times", csv(event_time=["01/02/2026 09:30"]), f"{NO_TIME}.*01/02/2026"),
    "a date column": reads("times", parquet(event_time=pl.Series([date(2026, 1, 1)])), event_time=[1767225600000000]),
    "a zoned column": reads("times", parquet(event_time=pl.Series([datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo"))])), event_time=[1767193200000000]),
    "nanoseconds": reads("times", parquet(event_time=pl.Series([datetime(2026, 1, 1)]).cast(pl.Datetime("ns"))), event_time=[1767225600000000]),
    # labels
    "Y and N": reads("labels", csv(is_fraud=["Y", "N"]), is_fraud=[1, 0]),
    "any case, trimmed": reads("labels", csv(is_fraud=[" yes ", "NO", "No"]), is_fraud=[1, 0, 0]),
    "words for both": reads("labels", csv(is_fraud=["Fraud", "legit", "genuine", "legitimate"]), is_fraud=[1, 0, 0, 0]),
    "decimals of numbers": reads("labels", csv(is_fraud=["1.0", "0.0", "N/A"]), is_fraud=[1, 0, None]),
    "a category of polars": reads("labels", parquet(is_fraud=pl.Series(["fraud", "legit"], dtype=pl.Categorical)), is_fraud=[1, 0]),
    "one and minus one": reads("labels", csv(is_fraud=["1", "-1"]), is_fraud=[1, 0]),
    "one and two": stops("labels", csv(is_fraud=["1", "2"]), r"'1', '2'.*--labels"),
    "one and two, said": reads("labels", csv(is_fraud=["1", "2"]), reading=Reading(labels={"1": 0, "2": 1}), is_fraud=[0, 1]),
    "other words": stops("labels", csv(is_fraud=["chargeback", "ok"]), "'chargeback', 'ok'.*--labels"),
    "other words, said": reads("labels", csv(is_fraud=["Chargeback", "OK"]), reading=Reading(labels={"chargeback": 1, "ok": 0}), is_fraud=[1, 0]),
    "one word among many": stops("labels", csv(is_fraud=["0"] * 50 + ["maybe"]), "'maybe'"),
    "mixed ways": reads("labels", csv(is_fraud=["1", "no", "TRUE", "f", ""]), is_fraud=[1, 0, 1, 0, None]),
    "booleans in JSON": reads("labels", lines(is_fraud=[True, False, None]), is_fraud=[1, 0, None]),
    "numbers in parquet": reads("labels", parquet(is_fraud=pl.Series([1.0, 0.0, None])), is_fraud=[1, 0, None]),
    "decimals in parquet": reads("labels", parquet(is_fraud=pl.Series([Decimal(1), Decimal(0)], dtype=pl.Decimal(4, 1))), is_fraud=[1, 0]),
    "lists": stops("labels", parquet(is_fraud=pl.Series([[1], [0]])), "list values"),
    "no label at all": reads("labels", text(HEAD + ROW), card=["c1"]),
    # separators, encodings, compression, folders
    "semicolons": reads("dialects", csv(separator=";", card=["a,b"]), card=["a,b"]),
    "tabs": reads("dialects", csv(separator="\t", card=["a b"]), card=["a b"]),
    "bars": reads("dialects", csv(separator="|", card=["a;b"]), card=["a;b"]),
    "tabs in a .tsv": reads("dialects", csv("x.tsv", separator="\t", card=["a"]), card=["a"]),
    "Windows ends of lines": reads("dialects", csv(end="\r\n", card=["a", "b"]), card=["a", "b"]),
    "all in quotes": reads("dialects", csv(quote=csv_files.QUOTE_ALL, card=['a "b"', "c\nd"]), card=['a "b"', "c\nd"]),
    "a mark before UTF-8": reads("dialects", csv(encoding="utf-8-sig", card=["ä"]), card=["ä"]),
    "UTF-16": reads("dialects", csv(encoding="utf-16", card=["ä€"]), card=["ä€"]),
    "UTF-16 without a mark": reads("dialects", csv(encoding="utf-16-le", card=["ä"]), card=["ä"]),
    "UTF-16 JSON": reads("dialects", lines(encoding="utf-16", card=["ä"]), card=["ä"]),
    "Latin-1, said": reads("dialects", csv(encoding="latin-1", card=["Müller"]), reading=Reading(dialect=Dialect(encoding="latin-1")), card=["Müller"]),
    "Latin-1, unsaid": stops("dialects", csv(encoding="latin-1", card=["Müller"]), r"not UTF-8 \(line 2\).*--encoding latin-1"),
    "Windows' own, unsaid": stops("dialects", csv(encoding="cp1252", card=["€uro"]), "--encoding cp1252"),
    "Latin-1, said by the detector": reads("dialects", csv(encoding="latin-1", card=["Müller"]), schema=Schema(keys=("card",), encoding="latin-1"), card=["Müller"]),
    "Latin-1 far down": stops("dialects", csv(encoding="latin-1", card=["a"] * 3_000 + ["Müller"]), r"not UTF-8 \(line 3002\)"),
    "packed with gzip": reads("dialects", csv("x.csv.gz", pack=gzip.compress, card=["0012"]), card=["0012"]),
    "packed with zstd": reads("dialects", csv("x.csv.zst", pack=zst, card=["0012"]), card=["0012"]),
    "JSON, packed with zstd": reads("dialects", lines("x.jsonl.zst", pack=zst, card=["0012"]), card=["0012"]),
    "JSON, packed with gzip": reads("dialects", lines("x.ndjson.gz", pack=gzip.compress, card=["0012"]), card=["0012"]),
    "a folder": reads("dialects", csv("a/part-0.csv", card=["a"]) | csv("a/part-1.csv", transaction_id=["z"], card=["b"]), card=["a", "b"]),
    "a folder of several kinds": reads("dialects", csv("a/1.csv", separator=";", card=["a"]) | parquet("a/2.parquet", transaction_id=["z"], card=["b"]) | text("no data", "a/notes.md"), card=["a", "b"]),
    "columns in another order": reads("dialects", csv("a/1.csv", card=["a"]) | text("shop,card,points,amount,event_time,transaction_id\nm,b,1,2,2026-01-02,z\n", "a/2.csv"), card=["a", "b"], shop=["m1", "m"]),
    "a name that is a pattern too": reads("dialects", csv("x[1].csv", card=["a"]) | csv("x1.csv", card=["b"]), card=["a"]),
    "such a name of JSON": reads("dialects", lines("x[1].jsonl.zst", pack=zst, card=["a"]) | lines("x1.jsonl.zst", pack=zst, card=["b"]), card=["a"]),
    "such a name of Parquet": reads("dialects", parquet("x[1].parquet", card=["a"]) | parquet("x1.parquet", card=["b"]), card=["a"]),
    "a star in a folder": reads("dialects", csv("a/*.csv", card=["a"]) | csv("a/1.csv", transaction_id=["z"], card=["b"]), card=["a", "b"]),
    "a decimal comma": reads("dialects", csv(separator=";", amount=["1.234,50", "0,5", "7"]), reading=Reading(decimal=","), amount=[1234.5, 0.5, 7.0]),
    "a decimal comma, said by the detector": reads("dialects", csv(separator=";", amount=["1.234,50"]), schema=Schema(decimal=","), amount=[1234.5]),
    # numbers at the precision that they have
    "single precision": reads("precision", parquet(amount=pl.Series([19.99, 0.1, 1234.56], dtype=pl.Float32)), amount=[19.99, 0.1, 1234.56]),
    "half a cent": reads("precision", csv(amount=["12.345", "12.35"]), {"more than 2 decimals": 1}, amount=[12.35]),
    "a cent and rounding of binary numbers": reads("precision", parquet(amount=[0.1 + 0.2, 1.1 * 3]), amount=[0.1 + 0.2, 1.1 * 3]),
    "decimal types": reads("precision", parquet(amount=pl.Series([Decimal("19.99")], dtype=pl.Decimal(18, 2))), amount=[19.99]),
    "decimals of ten places": reads("precision", parquet(amount=pl.Series([Decimal("19.99")], dtype=pl.Decimal(30, 10))), amount=[19.99]),
    "whole decimals as keys": reads("precision", parquet(card=pl.Series([Decimal("7.00"), Decimal("8.00")], dtype=pl.Decimal(18, 2))), card=["7", "8"]),
    "decimals as keys": reads("precision", parquet(card=pl.Series([Decimal("7.50"), Decimal("8.00")], dtype=pl.Decimal(18, 2))), {f"card is {NO_TEXT}": 1}, card=["8"]),
    "floats as keys": reads("precision", parquet(card=[490.0, 7.0]), card=["490", "7"]),
    "floats beyond 2^53 as keys": stops("precision", parquet(card=[2.0**53, 2.0**53 + 2]), f"card is {NO_TEXT}"),
    "keys of 64 bits": reads("precision", parquet(card=pl.Series([2**63 - 1, 2**53 + 1])), card=["9223372036854775807", "9007199254740993"]),
    "keys of 64 bits without a sign": reads("precision", parquet(card=pl.Series([2**64 - 1], dtype=pl.UInt64)), card=["18446744073709551615"]),
    "numbers as text in parquet": reads("precision", parquet(amount=["19.99", "1e1"]), amount=[19.99, 10.0]),
    "missing in many ways": reads("precision", csv(risk=["", "NA", "n/a", "NaN", "null", "None"]), risk=[None] * 6),
    "signs and points": reads("precision", csv(risk=["+1", "-0", ".5", "5."]), risk=[1.0, -0.0, 0.5, 5.0]),
    "thousands": reads("precision", csv(risk=["1 000", "1'000", "1_000", "0x10", "1"]), {f"risk is {NO_NUMBER}": 4}, risk=[1.0]),
    "lists as keys": stops("precision", parquet(card=pl.Series([["a"], ["b"]])), "card holds list values"),
    # ids that come again
    "the last label counts": reads("repeated", csv(transaction_id=["a", "b", "a"], is_fraud=["0", "0", "1"]), {"seen before": 1}, transaction_id=["a", "b"], is_fraud=[1, 0]),
    "back again": reads("repeated", csv(transaction_id=["a", "a", "a"], is_fraud=["0", "1", "0"]), {"seen before": 2}, is_fraud=[0]),
    "a label that came later": reads("repeated", csv(transaction_id=["a", "a"], is_fraud=["", "1"]), {"seen before": 1}, is_fraud=[1]),
    "no label is no news": reads("repeated", csv(transaction_id=["a", "a"], is_fraud=["1", ""]), {"seen before": 1}, is_fraud=[1]),
    "words of a file count as they mean": reads("repeated", csv(transaction_id=["a", "a"], is_fraud=["N", "yes"]), {"seen before": 1}, is_fraud=[1]),
    "the first row stays": reads("repeated", csv(transaction_id=["a", "a"], amount=["1", "2"]), {"seen before": 1}, amount=[1.0]),
    "over several files": reads("repeated", csv("a/1.csv", transaction_id=["a"], is_fraud=["0"]) | csv("a/2.csv", transaction_id=["a"], is_fraud=["1"]), {"seen before": 1}, is_fraud=[1]),
    "over several kinds": reads("repeated", csv("a/1.csv", transaction_id=["7"], is_fraud=["0"]) | lines("a/2.jsonl", transaction_id=[7], is_fraud=[True]), {"seen before": 1}, is_fraud=[1]),
    "zeros make another id": reads("repeated", csv(transaction_id=["07", "7"], is_fraud=["0", "1"]), transaction_id=["07", "7"], is_fraud=[0, 1]),
    "a row that is left out says nothing": reads("repeated", csv(transaction_id=["a", "a"], amount=["1", "x"], is_fraud=["0", "1"]), {f"amount is {NO_NUMBER}": 1}, is_fraud=[0]),
    "a refused row and a good one": reads("repeated", csv(transaction_id=["a", "a"], amount=["x", "2"], is_fraud=["0", "1"]), {f"amount is {NO_NUMBER}": 1}, amount=[2.0], is_fraud=[1]),
    "a field that ends as a column that is made": reads("repeated", csv(transaction_id=["a", "a"], is_fraud=["0", "1"], is_fraud_last=["x", "y"]), {"seen before": 1}, schema=Schema(keys=("card", "is_fraud_last")), is_fraud=[1], is_fraud_last=["x"]),
    "far apart": reads("repeated", csv(transaction_id=[*(str(i) for i in range(11_000)), "5"], is_fraud=["0"] * 11_000 + ["1"]), {"seen before": 1}, is_fraud=[0] * 5 + [1] + [0] * 10_994),
    # what a library would say in its own words
    "cut gzip": stops("faults", csv("x.csv.gz", pack=lambda raw: gzip.compress(raw * 50)[:-30], card=["a"] * 900), "compressed data ends too early"),
    "no gzip": stops("faults", text("hello", "x.csv.gz"), "cannot be read"),
    "cut zstd": stops("faults", csv("x.csv.zst", pack=lambda raw: zst(raw * 50)[:-30], card=["a"] * 900), "cannot be read"),
    "no zstd": stops("faults", text("hello", "x.csv.zst"), "lacks transaction_id"),
    "cut zstd of JSON": stops("faults", lines("x.jsonl.zst", pack=lambda raw: zst(raw)[:-30], card=["a"] * 900), "cannot be read"),
    "cut gzip of JSON": stops("faults", lines("x.jsonl.gz", pack=lambda raw: gzip.compress(raw)[:-30], card=["a"] * 900), "compressed data ends too early"),
    "cut parquet": stops("faults", {"x.parquet": parquet(card=["a"])["x.parquet"][:-20]}, "cannot be read"),
    "parquet, damaged inside": stops("faults", {"x.parquet": b"PAR1" + bytes(200) + parquet(card=["a"])["x.parquet"][204:]}, "cannot be read"),
    "no parquet": stops("faults", text("hello", "x.parquet"), "cannot be read"),
    "an empty CSV": stops("faults", text(""), "is empty"),
    "an empty JSON": stops("faults", text("", "x.jsonl"), "is empty"),
    "only a header": stops("faults", text(HEAD), "no rows"),
    "only blank lines": stops("faults", text("\n\n\n"), "is empty"),
    "binary": stops("faults", text(bytes(range(256)) * 40), "is binary"),
    "a picture": stops("faults", text(b"\x89PNG\r\n\x1a\n" + bytes(300)), "is binary"),
    "too many cells": stops("faults", text(HEAD + ROW + ROW.strip() + ",x,y\n"), "line 3 has 8 cells and the first line 6"),
    "too few cells": reads("faults", text(HEAD + ROW + "t1,2026-01-01,10,1,c1\n"), {"shop is missing": 1}, shop=["m1"]),
    "a quote that is not closed": stops("faults", text(HEAD + ROW + 't1,2026-01-01,10,1,"c1,m1\n' + ROW.replace("t0", "t2")), "quote"),
    "NUL in a cell": reads("faults", text(HEAD + ROW.replace("c1", "c\0")), {}, card=["c\0"]),
    "mixed ends of lines": reads("faults", text((HEAD + ROW + ROW.replace("t0", "t1") + ROW.replace("t0", "t2")).replace("m1\n", "m1\r\n", 1)), shop=["m1"] * 3),
    "ends of lines of old Macs": reads("faults", text((HEAD + ROW).replace("\n", "\r")), shop=["m1"]),
    "a name twice in the header": stops("faults", text("card," + HEAD + "x," + ROW), "card.*twice"),
    "no such columns": stops("faults", text("a,b\n1,2\n"), "lacks transaction_id.*--map COLUMN=transaction_id"),
    "a line without an end": stops("faults", text(gzip.compress((HEAD + ROW + "x,2026-01-01,1,1,\"").encode() + b" " * (40 << 20)), "x.csv.gz"), "line 3 is longer than 16 MiB"),
    "a line without an end, of JSON": stops("faults", {"x.jsonl.gz": gzip.compress(lines(card=["a"])["x.jsonl"] + b'\n{"x":"' + b" " * (40 << 20))}, "line 2 is longer than 16 MiB"),
    "a line without an end, of zstd": stops("faults", {"x.jsonl.zst": zst(lines(card=["a"])["x.jsonl"] + b'\n{"x":"' + b" " * (40 << 20))}, "line 2 is longer than 16 MiB"),
    "a line without an end, of CSV in zstd": stops("faults", text(zst((HEAD + ROW + "x,").encode() + b" " * (40 << 20)), "x.csv.zst"), "line 3 is longer than 16 MiB"),
    "a line without an end, in UTF-16": stops("faults", {"x.jsonl": lines(card=["a"], encoding="utf-16")["x.jsonl"] + ("\n" + " " * (20 << 20)).encode("utf-16-le")}, "line 2 is longer than 16 MiB"),
    "thousands of names": stops("faults", text(json.dumps({f"n{n}": 1 for n in range(60_000)}), "x.jsonl"), "more than 5,000 columns"),
    "names that pile up": stops("faults", text("\n".join(json.dumps({f"n{n}_{m}": 1 for m in range(100)}) for n in range(60)), "x.jsonl"), "more than 5,000 columns"),
    "thousands of cells": stops("faults", text(",".join(f"n{n}" for n in range(60_000)) + "\n"), "more than 5,000 columns"),
    "thousands of cells in UTF-16": stops("faults", text(",".join(f"n{n}" for n in range(60_000)).encode("utf-16")), "more than 5,000 columns"),
    "quotes in a name": reads("faults", text(HEAD.replace("shop", '"the ""shop"""') + ROW), schema=Schema(keys=("card", "shop"), columns={"shop": 'the "shop"'}), shop=["m1"]),
    "a list in a file of JSON": stops("faults", text('[{"a": 1}]', "x.jsonl"), "no JSON objects, one in each line"),
    "a folder without data": stops("faults", text("nothing", "a/notes.md"), r"has no \.csv"),
    "a table of a spreadsheet": stops("faults", text(b"PK\x03\x04", "x.xlsx"), "ending"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_read_as_expected(tmp_path, name):
    case = CASES[name]
    for file, content in case.files.items():
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    where = tmp_path / "a" if any(file.startswith("a/") for file in case.files) else tmp_path / next(iter(case.files))
    if case.stops is not None:
        with pytest.raises(DataProblem, match=f"(?s){case.stops}") as caught:
            read_history(where, case.schema, case.reading)
        assert len(str(caught.value).splitlines()) == 1
        return
    history = read_history(where, case.schema, case.reading)
    for column, values in case.keeps.items():
        assert history.frame[column].to_list() == values
    expected = case.left or {}
    left = {part: sum(n for reason, n in history.skipped.items() if part in reason) for part in expected}
    assert left == expected
    assert sum(history.skipped.values()) == sum(expected.values())
    assert all(reason in history.examples for reason in history.skipped)


def test_there_are_many_of_each_kind():
    kinds = [case.kind for case in CASES.values()]
    assert {kind: n for kind in kinds if (n := kinds.count(kind)) < 12} == {}


def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(csv(card=["a"])["x.csv"])
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        with pytest.raises(DataProblem, match="cannot be read: Permission denied"):
            read_history(path, SCHEMA)
        return
    pytest.skip("whoever runs this may read everything")
