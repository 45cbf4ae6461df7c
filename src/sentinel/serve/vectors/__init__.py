"""Feature vectors without state: `POST /predict`."""
