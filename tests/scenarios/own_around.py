"""What an owner and its standby work with, all of it a test's own: a broker, a database and a Redis."""

from pathlib import Path

from tests.own_services import OwnBroker, OwnDatabase, OwnRedis


class Around:
    """The three, in a folder that other accounts may enter; `like` is the folder of those that run here."""

    def __init__(self, folder: Path, like: Path) -> None:
        self.broker, self.database, self.redis = (kind(folder, like) for kind in (OwnBroker, OwnDatabase, OwnRedis))

    def start(self) -> None:
        """Start them, and make the first copy of the database."""
        for one in (self.broker, self.database, self.redis):
            one.start()
        self.database.back_up()

    def stop(self) -> None:
        for one in (self.redis, self.database, self.broker):
            one.stop()

    @property
    def environment(self) -> dict[str, str]:
        """Of a server that has its views there."""
        return {"SENTINEL_DATABASE_URL": self.database.url, "SENTINEL_REDIS_URL": self.redis.url}
