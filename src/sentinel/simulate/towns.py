"""The towns in which simulated payments happen."""

from typing import NamedTuple


class Town(NamedTuple):
    """A town: its country (ISO 3166), where it is in degrees, and its weights of customers of the bank and visitors."""

    name: str
    country: str
    latitude: float
    longitude: float
    customers: int
    visitors: int


TOWNS = tuple(
    Town(*one)
    for one in (
        ("Berlin", "DE", 52.5200, 13.4050, 10, 5), ("Munich", "DE", 48.1351, 11.5820, 7, 4),
        ("Hamburg", "DE", 53.5511, 9.9937, 6, 3), ("Paris", "FR", 48.8566, 2.3522, 10, 8),
        ("Lyon", "FR", 45.7640, 4.8357, 4, 2), ("Marseille", "FR", 43.2965, 5.3698, 3, 3),
        ("Rome", "IT", 41.9028, 12.4964, 7, 6), ("Milan", "IT", 45.4642, 9.1900, 6, 4),
        ("Madrid", "ES", 40.4168, -3.7038, 7, 5), ("Barcelona", "ES", 41.3874, 2.1686, 5, 6),
        ("Amsterdam", "NL", 52.3676, 4.9041, 5, 5), ("Brussels", "BE", 50.8503, 4.3517, 4, 3),
        ("Vienna", "AT", 48.2082, 16.3738, 4, 3), ("Warsaw", "PL", 52.2297, 21.0122, 6, 2),
        ("Lisbon", "PT", 38.7223, -9.1393, 4, 4), ("London", "GB", 51.5074, -0.1278, 6, 8),
        ("Dublin", "IE", 53.3498, -6.2603, 2, 2), ("Copenhagen", "DK", 55.6761, 12.5683, 2, 2),
        ("Stockholm", "SE", 59.3293, 18.0686, 0, 2), ("Prague", "CZ", 50.0755, 14.4378, 0, 3),
        ("Athens", "GR", 37.9838, 23.7275, 0, 4), ("Istanbul", "TR", 41.0082, 28.9784, 0, 4),
        ("Bucharest", "RO", 44.4268, 26.1025, 0, 2), ("Casablanca", "MA", 33.5731, -7.5898, 0, 1),
        ("Cairo", "EG", 30.0444, 31.2357, 0, 1), ("Lagos", "NG", 6.5244, 3.3792, 0, 1),
        ("Johannesburg", "ZA", -26.2041, 28.0473, 0, 1), ("Dubai", "AE", 25.2048, 55.2708, 0, 2),
        ("Mumbai", "IN", 19.0760, 72.8777, 0, 1), ("Bangkok", "TH", 13.7563, 100.5018, 0, 2),
        ("Singapore", "SG", 1.3521, 103.8198, 0, 1), ("Tokyo", "JP", 35.6762, 139.6503, 0, 1),
        ("New York", "US", 40.7128, -74.0060, 0, 4), ("Miami", "US", 25.7617, -80.1918, 0, 2),
        ("Los Angeles", "US", 34.0522, -118.2437, 0, 2), ("Mexico City", "MX", 19.4326, -99.1332, 0, 1),
        ("Sao Paulo", "BR", -23.5505, -46.6333, 0, 1), ("Sydney", "AU", -33.8688, 151.2093, 0, 1),
    )
)  # fmt: skip
"""Customers live in the first ones; to the others they travel."""
