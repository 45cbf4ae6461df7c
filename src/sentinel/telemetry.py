"""What Sentinel tells about itself while it runs: log lines, for now."""

import logging


def configure_logging(level: str = "WARNING") -> None:
    """Log lines of this level and above to standard error."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
