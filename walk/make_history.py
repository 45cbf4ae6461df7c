"""A history as a shop's database gives it away, which nobody has cleaned: semicolons, Latin-1, dates as in the US.

Labels are Y and N, ids have leading zeros, and prices a decimal comma. Some cards are taken over for a day or two: they
then pay more often and more, at merchants of a few countries. It is what `walk/walk.py` begins with.
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

COLUMNS = ("Txn No.", "Booked At", "Card No.", "Händler", "Land", "Kanal", "Betrag", "Fraud?", "Chargeback Date")
_TOWNS = (
    "Müller & Söhne",
    "Café Zürich",
    "Señor Piñata",
    "Bäckerei Groß",
    "Øl & Mad",
    "Crème Brûlée",
    "Kiosk",
    "Tankstelle",
)
_COUNTRIES = ("AT", "DE", "FR", "ES", "NL", "PT")
_CHANNELS = ("chip", "web", "app")
_BEGIN = datetime(2026, 3, 1)
_MINUTES = 120 * 24 * 60


def write_history(path: Path, rows: int, seed: int = 42) -> int:
    """Write so many payments of 120 days; how many of them are frauds."""
    chance = np.random.default_rng(seed)
    cards, merchants = max(rows // 40, 20), 300
    usual = chance.lognormal(3.2, 0.5, cards)
    found = []
    for _ in range(rows - rows // 40):
        card = int(chance.integers(cards))
        hour = min(max(int(chance.normal(14, 4)), 0), 23)
        minute = int(chance.integers(_MINUTES)) // 1440 * 1440 + hour * 60 + int(chance.integers(60))
        amount = usual[card] * chance.lognormal(0, 0.5)
        found.append((minute, card, int(chance.integers(merchants)), int(chance.integers(6)), amount, "N"))
    while len(found) < rows:
        card, begin = int(chance.integers(cards)), int(chance.integers(_MINUTES - 3_000))
        for _ in range(min(int(chance.integers(3, 9)), rows - len(found))):
            amount = usual[card] * chance.lognormal(1.1, 0.6)
            found.append((begin, card, int(chance.integers(merchants)), int(chance.integers(4, 6)), amount, "Y"))
            begin += int(chance.integers(2, 240))
    found.sort(key=lambda one: one[0])
    lines = [";".join(COLUMNS)]
    for n, (minute, card, merchant, country, amount, label) in enumerate(found):
        when = _BEGIN + timedelta(minutes=minute)
        charged = f"{when + timedelta(days=9):%m/%d/%Y %H:%M}" if label == "Y" else ""
        shop = f"{_TOWNS[merchant % len(_TOWNS)]} {merchant:03}"
        price = f"{amount:,.2f}".replace(",", " ").replace(".", ",").replace(" ", ".")
        channel = _CHANNELS[int(chance.integers(3))]
        cells = (
            f"{n:08}",
            f"{when:%m/%d/%Y %H:%M}",
            f"{card:06}",
            shop,
            _COUNTRIES[country],
            channel,
            price,
            label,
            charged,
        )
        lines.append(";".join(cells))
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode("latin-1"))
    return sum(one[5] == "Y" for one in found)


if __name__ == "__main__":
    sys.stdout.write(f"{write_history(Path(sys.argv[1]), int(sys.argv[2])):,} frauds\n")
