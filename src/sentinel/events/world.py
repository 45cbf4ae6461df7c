"""The world of the simulator: cities, merchants and cards, and who goes where."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS = ("chip", "contactless", "online", "atm")
CATEGORIES = (
    "grocery", "fuel", "restaurant", "fashion", "electronics", "travel", "pharmacy", "entertainment", "home", "cash",
    "digital_goods", "marketplace",
)  # fmt: skip
_LEVELS = np.array([3.4, 3.7, 3.1, 3.9, 4.6, 5.2, 2.9, 3.0, 4.2, 4.3, 2.4, 3.6])  # log of a usual amount
_CASH, _ONLINE = CATEGORIES.index("cash"), (3, 4, 5, 7, 10, 11)
_PRESENT = (0, 1, 2, 3, 4, 6, 7, 8, 9)
COUNTRIES = ("DE", "FR", "GB", "ES", "IT", "PL", "US", "BR", "IN", "JP", "AU", "ZA", "NG", "TH")
# Name-less cities: country, latitude, longitude, weight.
_CITIES = (
    (0, 52.52, 13.40, 9), (0, 48.14, 11.58, 6), (0, 53.55, 9.99, 5), (0, 50.94, 6.96, 4), (1, 48.86, 2.35, 9),
    (1, 45.76, 4.84, 4), (1, 43.30, 5.37, 4), (2, 51.51, -0.13, 9), (2, 53.48, -2.24, 4), (2, 55.95, -3.19, 2),
    (3, 40.42, -3.70, 6), (3, 41.39, 2.17, 5), (4, 41.90, 12.50, 5), (4, 45.46, 9.19, 5), (5, 52.23, 21.01, 5),
    (5, 50.06, 19.94, 3), (6, 40.71, -74.01, 3), (6, 34.05, -118.24, 2), (7, -23.55, -46.63, 1),
    (8, 19.08, 72.88, 1), (9, 35.68, 139.69, 1), (10, -33.87, 151.21, 1), (11, -26.20, 28.05, 1),
    (12, 6.52, 3.38, 1), (13, 13.76, 100.50, 1),
)  # fmt: skip
_LOCAL_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Columns:
    """n payments as numbers; `device` and `pattern` are -1 where there is none."""

    time_us: NDArray[np.int64]
    amount: NDArray[np.float64]
    card: NDArray[np.int64]
    merchant: NDArray[np.int64]
    device: NDArray[np.int64]
    channel: NDArray[np.int64]
    city: NDArray[np.int64]
    pattern: NDArray[np.int64]

    def arrays(self) -> Iterator[NDArray[Any]]:
        """The columns in the order of the fields."""
        return (getattr(self, name) for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class World:
    """Cities, merchants (sorted by city, the online ones last) and cards; one entry of an array for each."""

    days: int
    city_country: NDArray[np.int64]
    city_latitude: NDArray[np.float64]
    city_longitude: NDArray[np.float64]
    merchant_city: NDArray[np.int64]
    merchant_category: NDArray[np.int64]
    merchant_level: NDArray[np.float64]
    first_local: NDArray[np.int64]
    n_local: int
    card_city: NDArray[np.int64]
    card_rate: NDArray[np.float64]
    card_level: NDArray[np.float64]
    card_online: NDArray[np.float64]
    trip_city: NDArray[np.int64]
    trip_begins: NDArray[np.int64]
    trip_ends: NDArray[np.int64]
    categories: tuple[str, ...] = CATEGORIES
    countries: tuple[str, ...] = COUNTRIES

    @property
    def n_merchants(self) -> int:
        """How many merchants there are."""
        return len(self.merchant_city)

    @property
    def first_new_device(self) -> int:
        """Numbers from here on are devices that no card owner has."""
        return 2 * len(self.card_city)

    def local_merchants(self, rng: np.random.Generator, city: NDArray[np.int64]) -> NDArray[np.int64]:
        """A merchant of each city, a few of them much more popular than the rest."""
        first, end = self.first_local[city], self.first_local[city + 1]
        return first + ((end - first) * rng.random(len(city)) ** 2.5).astype(np.int64)

    def online_merchants(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """N online merchants, by popularity."""
        return self.n_local + ((self.n_merchants - self.n_local) * rng.random(n) ** 2.5).astype(np.int64)

    def present_channel(self, rng: np.random.Generator, merchant: NDArray[np.int64]) -> NDArray[np.int64]:
        """How a card that is present is used there."""
        touched = np.where(rng.random(len(merchant)) < 0.6, CHANNELS.index("contactless"), CHANNELS.index("chip"))
        return np.where(self.merchant_category[merchant] == _CASH, CHANNELS.index("atm"), touched)


def make_world(rng: np.random.Generator, transactions: int, days: int) -> World:
    """A world whose cards make about one payment every two days."""
    countries, latitudes, longitudes, weights = (np.array(column) for column in zip(*_CITIES, strict=True))
    share = weights / weights.sum()
    n_cards = max(3, 2 * transactions // max(days, 10))
    n_merchants = max(4 * len(_CITIES), transactions // 250)
    n_local = int(n_merchants * _LOCAL_SHARE)
    spread = np.concatenate([np.arange(len(_CITIES)), rng.choice(len(_CITIES), n_local - len(_CITIES), p=share)])
    local_city = np.sort(spread)
    n_online = n_merchants - n_local
    city = np.concatenate([local_city, rng.choice(len(_CITIES), n_online, p=share)])
    category = np.concatenate([rng.choice(_PRESENT, n_local), rng.choice(_ONLINE, n_online)])
    rate = rng.gamma(1.2, 1.0, n_cards)
    trip = rng.integers(-days, days, n_cards)  # half the cards travel within the time that is simulated
    return World(
        days=days,
        city_country=countries.astype(np.int64),
        city_latitude=latitudes.astype(float),
        city_longitude=longitudes.astype(float),
        merchant_city=city,
        merchant_category=category,
        merchant_level=_LEVELS[category] + rng.normal(0, 0.35, n_merchants),
        first_local=np.searchsorted(local_city, np.arange(len(_CITIES) + 1)),
        n_local=n_local,
        card_city=rng.choice(len(_CITIES), n_cards, p=share),
        card_rate=rate / rate.sum(),
        card_level=rng.normal(0, 0.4, n_cards),
        card_online=rng.beta(2, 4, n_cards),
        trip_city=rng.choice(len(_CITIES), n_cards, p=share),
        trip_begins=trip,
        trip_ends=trip + rng.integers(3, 12, n_cards),
    )
