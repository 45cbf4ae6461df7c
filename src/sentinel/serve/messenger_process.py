"""The messenger's process: keeps what sends messages to the world outside running. No decision waits for it."""

from pathlib import Path

from sentinel.child_process import Child, Supervisor


class MessengerProcess(Supervisor):
    """Keeps the messenger of a home folder running."""

    def __init__(self, home: Path) -> None:
        super().__init__("messenger", first_wait_s=1.0, longest_wait_s=30.0)
        self._home = home

    def start(self) -> None:
        """Have messages sent; returns at once."""
        self.follow(str(self._home))

    def _begin(self, wanted: str, now_s: float) -> Child:  # noqa: ARG002
        return Child("sentinel.transport.messages.follower", ["--home", wanted], niceness=15)
