"""The image of the proxy for a machine that cannot pull one: HAProxy of Debian on the image of the server."""

from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.compose.engine import Engine
from deploy.compose.passwords import StackFailed
from deploy.compose.stack import OURS

NAME = "localhost/sentinel-door:local"
FILE = Path(__file__).with_name("door.Containerfile")
_SERVING = "STACK_SERVING_IMAGE"


def make_door(engine: Engine, settings: Mapping[str, str], tell: Callable[[str], None]) -> None:
    """Build the image that compose.services.yaml names, unless it is here. Raises StackFailed."""
    if engine.has_image(NAME):
        return
    tell(f"{NAME} is built")
    base = settings.get(_SERVING) or OURS[_SERVING]
    flags = ("--isolation", "chroot", "--pull-never") if engine.program == "podman" else ()
    done = engine.asked(
        "build", *flags, "--network", "host", "--build-arg", f"BASE={base}", "--tag", NAME, "--file", str(FILE),
        str(FILE.parent),
    )  # fmt: skip
    if done.returncode:
        raise StackFailed(f"{NAME} could not be built: {(done.stdout + done.stderr).strip()[-600:]}")
