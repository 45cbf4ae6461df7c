"""The wire: connections, what they may hold, and how their bytes are read as requests."""
