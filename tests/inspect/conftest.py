"""A shop's history as a file of many faults."""

import csv
import io
from datetime import datetime, timedelta

import pytest

COLUMNS = ("order-id", "When", "Price", "Card No.", "Shop", "country", "Fraud?", "reviewed_by")


@pytest.fixture
def shop_csv(tmp_path):
    """Semicolons, Latin-1, US dates, decimal commas, leading zeros, Y and N; reviewed_by is only there of frauds."""

    def write(rows=3_000, name="shop.csv", change=lambda _n, row: row):
        written = io.StringIO()
        writer = csv.writer(written, delimiter=";", lineterminator="\r\n")
        writer.writerow(COLUMNS)
        for n in range(rows):
            fraud = n % 40 in (7, 8)
            when = datetime(2026, 1, 1) + timedelta(minutes=20 * n)
            row = {
                "order-id": f"{n:07}", "When": f"{when:%m/%d/%Y %H:%M}", "Price": f"{1_000 + n % 90 if fraud else n % 97 + 0.5:,.2f}",
                "Card No.": f"{n % 150:05}", "Shop": f"Café {n % 9}", "country": ("AT", "DE")[n % 2], "Fraud?": "Y" if fraud else "N",
                "reviewed_by": "ann" if fraud else "",
            }  # fmt: skip
            row["Price"] = row["Price"].replace(",", " ").replace(".", ",").replace(" ", ".")
            writer.writerow(change(n, row).values())
        path = tmp_path / name
        path.write_bytes(written.getvalue().encode("latin-1"))
        return path

    return write
