"""The small detector of a shop that knows context events, too."""

from pathlib import Path

import msgspec

from sentinel.detectors import load_detector

_shop = load_detector(str(Path(__file__).with_name("shop_detector.py")))
detector = msgspec.structs.replace(
    _shop,
    name="shop_with_events",
    schema=msgspec.structs.replace(
        _shop.schema,
        events={"login": ("card", "channel"), "password_change": ("card",), "refund": ("card", "shop", "amount")},
    ),
)
