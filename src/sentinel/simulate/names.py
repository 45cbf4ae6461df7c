"""Names for simulated cards, merchants and devices, so that who looks at them sees a person, a shop, a phone.

A name stands for one number and none for two, and says no more about fraud than the number did. Persons and shops are
made up: first and last names of a country are put together at random.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from sentinel.simulate.fraud_patterns import CHANNELS, ONLINE, distance_km
from sentinel.simulate.payments import Simulated
from sentinel.simulate.towns import TOWNS

_GERMAN, _FRENCH, _ENGLISH = "german", "french", "english"
_TONGUES = {
    "DE": _GERMAN, "AT": _GERMAN, "FR": _FRENCH, "BE": _FRENCH, "IT": "italian", "ES": "spanish", "NL": "dutch",
    "PL": "polish", "PT": "portuguese", "GB": _ENGLISH, "IE": _ENGLISH, "DK": "danish",
}  # fmt: skip
_FIRST = {
    _GERMAN: ("Anna Jonas Lena Paul Marie Felix Sophie Lukas Clara Max Hanna Moritz Greta Tobias Katrin Stefan"),
    _FRENCH: ("Camille Louis Manon Hugo Chloe Jules Lea Arthur Emma Gabriel Zoe Nathan Alice Theo Margaux Olivier"),
    _ENGLISH: ("Amelia Oliver Grace George Emily Harry Isla Jack Ruby Charlie Freya Oscar Niamh Conor Orla Liam"),
    "italian": (
        "Giulia Matteo Sofia Lorenzo Chiara Davide Martina Andrea Elena Marco Alessia Luca Giorgia Pietro Sara Dario"
    ),
    "spanish": (
        "Lucia Diego Carmen Pablo Marta Javier Elisa Sergio Nuria Alvaro Irene Hector Paula Adrian Rocio Manuel"
    ),
    "dutch": ("Sanne Daan Fleur Bram Lotte Sem Femke Thijs Anouk Ruben Maud Jasper Roos Niels Iris Koen"),
    "polish": ("Zofia Jakub Maja Szymon Alicja Filip Natalia Kacper Magda Piotr Ewa Tomasz Kinga Marek Agata Rafal"),
    "portuguese": (
        "Ines Tiago Beatriz Rui Mariana Joao Leonor Nuno Catarina Pedro Rita Duarte Sofia Andre Filipa Goncalo"
    ),
    "danish": ("Freja Magnus Ida Emil Laerke Mads Signe Rasmus Astrid Soren Mette Anders Karla Jeppe Line Mikkel"),
}
_LAST = {
    _GERMAN: (
        "Becker Hoffmann Krause Lehmann Vogel Winkler Brandt Seidel Huber Gruber Bauer Pichler Keller Frank Otto Busch"
    ),
    _FRENCH: (
        "Moreau Laurent Girard Fontaine Lambert Rousseau Mercier Blanchard Dubois Lefevre Renard Peeters Claes "
        "Janssen Dumont Noel"
    ),
    _ENGLISH: (
        "Baker Clarke Hughes Turner Walsh Byrne Foster Bennett Parker Murphy Doyle Shaw Reid Palmer Grant Kelly"
    ),
    "italian": (
        "Rossi Bianchi Ferrari Romano Greco Conti Gallo Fontana Marini Rinaldi Caruso Leone Serra Villa Monti Sala"
    ),
    "spanish": (
        "Garcia Navarro Molina Ortega Delgado Iglesias Vidal Campos Ferrer Soler Cano Prieto Rubio Marquez Gil Pascual"
    ),
    "dutch": (
        "Bakker Visser Smit Mulder Bos Dekker Vos Hendriks Kok Kuipers Postma Veenstra Schouten Prins Blom Hoekstra"
    ),
    "polish": (
        "Nowak Kowalski Wojcik Mazur Krawczyk Zajac Pawlak Walczak Sikora Baran Duda Szewczyk Wrobel Kubiak Lis "
        "Maciejewski"
    ),
    "portuguese": (
        "Almeida Costa Sousa Lopes Teixeira Moreira Pinto Carvalho Ramos Correia Nunes Matos Faria Brito Leal Antunes"
    ),
    "danish": (
        "Nielsen Holm Lund Kjaer Dahl Bruun Winther Bech Friis Toft Lauritsen Vestergaard Skov Krogh Juhl Damgaard"
    ),
}
_SHOPS = {
    "grocery": ("Corner Market", "Fresh Foods"), "restaurant": ("Bistro", "Trattoria"),
    "fuel": ("Fuel Station", "Motor Stop"), "transport": ("Tram Tickets", "City Parking"),
    "pharmacy": ("Pharmacy", "Apothecary"), "clothing": ("Tailors", "Boutique"),
    "electronics": ("Electronics", "Audio and Video"), "home": ("Furniture", "Hardware"),
    "entertainment": ("Cinema", "Theatre"), "health": ("Dental Clinic", "Opticians"),
    "travel": ("Hotel", "Travel Agency"), "digital": ("Software", "Games"),
    "gift_cards": ("Gift Shop", "Gift Cards"), "cash": ("Cash Machine", "Bank Foyer"),
}  # fmt: skip
"""What a merchant of each category calls itself, after a name."""

_CALLED = (
    "Aurora", "Linden", "Bellavista", "Cedar", "Magnolia", "Riverside", "Orion", "Juniper", "Harbour", "Solstice",
    "Meridian", "Willow", "Copper", "Lantern", "Fable", "Marigold", "Northgate", "Saffron", "Velvet", "Quarry",
)  # fmt: skip
_DEVICES = (
    "iPhone 15",
    "Galaxy S24",
    "Pixel 8",
    "iPhone 13",
    "Redmi 13",
    "Windows laptop",
    "MacBook",
    "iPad",
    "Galaxy A54",
)
_DIGITS = 10_000
_CODES = 1 << 24  # six digits in base 16
_ODD, _PRIME = 10_368_889, 7_919  # with no factor in common with the two: what is multiplied by them stays apart


def named(made: Simulated) -> Simulated:
    """The same payments and events under names. Same arguments, same names; devices beyond 16 million share some."""
    cards = _cards(made.payments, made.events)
    devices = _devices(made.payments["device_id"].to_list() + made.events["device_id"].to_list())
    merchants = _merchants(made.payments)

    def renamed(frame: pl.DataFrame, names: Mapping[str, Mapping[str, str]]) -> pl.DataFrame:
        return frame.with_columns(
            pl.col(name).replace_strict(list(old), list(old.values()), return_dtype=pl.String)
            for name, old in names.items()
        )

    payments = renamed(made.payments, {"card_id": cards, "device_id": devices, "merchant_id": merchants})
    return Simulated(payments, renamed(made.events, {"card_id": cards, "device_id": devices}))


def _number(name: str) -> int:
    return int(name[1:])


def _cards(payments: pl.DataFrame, events: pl.DataFrame) -> dict[str, str]:
    """A holder of the country in which a card pays most, and the last four digits."""
    counts = payments.group_by("card_id", "country").len().sort("card_id", "len", "country")
    home = dict(counts.group_by("card_id", maintain_order=True).last().select("card_id", "country").iter_rows())
    found = {}
    for card in sorted({*home, *events["card_id"].to_list()}):
        tongue = _TONGUES.get(home.get(card, ""), _ENGLISH)
        first, last, n = _FIRST[tongue].split(), _LAST[tongue].split(), _number(card)
        digits = n % _DIGITS
        pair = (n // _DIGITS + digits * _ODD) % (len(first) * len(last))
        found[card] = f"{first[pair % len(first)]} {last[pair // len(first)]} {digits * _PRIME % _DIGITS:04}"
    return found


def _devices(names: Iterable[str | None]) -> dict[str, str]:
    found = {}
    for name in sorted({one for one in names if one is not None}):
        code = _number(name) * _ODD % _CODES
        found[name] = f"{_DEVICES[code % len(_DEVICES)]} {code:06x}"
    return found


def _merchants(payments: pl.DataFrame) -> dict[str, str]:
    """What it is called and sells, and its town where it has a till; those that would be called alike are numbered."""
    is_till = pl.col("channel") != CHANNELS[ONLINE]
    seen = payments.group_by("merchant_id").agg(
        pl.col("merchant_category").first(), pl.col("latitude", "longitude").filter(is_till).first()
    )
    taken: Counter[str] = Counter()
    found = {}
    for merchant, category, latitude, longitude in seen.sort("merchant_id").iter_rows():
        mixed = _number(merchant) * _ODD
        sells = _SHOPS[category]
        called = f"{_CALLED[mixed % len(_CALLED)]} {sells[mixed // len(_CALLED) % len(sells)]}"
        called += " Online" if latitude is None else f", {_town(latitude, longitude)}"
        taken[called] += 1
        found[merchant] = called if taken[called] == 1 else f"{called} {taken[called]}"
    return found


def _town(latitude: float, longitude: float) -> str:
    """The nearest town."""
    places = np.array([(one.latitude, one.longitude) for one in TOWNS])
    here = np.full(len(TOWNS), latitude), np.full(len(TOWNS), longitude)
    return TOWNS[int(np.argmin(distance_km(*here, places[:, 0], places[:, 1])))].name
