"""The small detector of a shop that looks cards and addresses up in tables."""

from pathlib import Path

import msgspec

from sentinel import LookupTable, category, col, count, field, is_first, ratio, seconds_between, total
from sentinel.detectors import load_detector

_shop = load_detector(str(Path(__file__).with_name("shop_detector.py")))
_schema = _shop.schema
detector = msgspec.structs.replace(
    _shop,
    name="shop_with_tables",
    schema=msgspec.structs.replace(
        _schema,
        categories=(*_schema.categories, "ip"),
        optional=(*_schema.optional, "ip"),
        tables={
            "cards": LookupTable(
                by="card", columns={"limit": "amount", "score": "number", "home": "category", "opened": "time"}
            ),
            "nets": LookupTable(by="ip", ranges="networks", columns={"country": "category", "asn": "number"}),
        },
    ),
    features=(
        *_shop.features,
        field("cards_limit"),
        field("cards_score"),
        field("nets_asn"),
        category("nets_country"),
        ratio("amount", to="cards_limit"),
        seconds_between("cards_opened", "event_time"),
        count(by="cards_home", over="1d"),
        count(by=("shop", "nets_country"), over="7d"),
        count(by="card", over="7d", where=(col("nets_country") != "DE") & (col("cards_limit") > 100)),
        total("cards_limit", by="shop", over="7d"),
        is_first("nets_country", by="card", over="30d"),
    ),
)
