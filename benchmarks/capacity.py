"""What an installation takes: bytes a decision in log and view, an id, a key in memory and in a snapshot.

A server of its own decides `--transactions` payments of 500 cards in 60 shops; then what is on the disk is divided by
how many there are. With `--database-url` the view is made in PostgreSQL, too, in the schema `sentinel$capacity`, which
has to be absent and is dropped again. What a million decisions cost follows in docs/operations.md.
"""

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import sqlalchemy as sa

from sentinel.commands.server_process import ServerProcess, free_port

sys.path.insert(0, str(Path(__file__).parents[1] / "walk"))
paced_load, trained = import_module("paced_load"), import_module("trained_home")

_HOST, _SCHEMA = "127.0.0.1", "sentinel$capacity"
_PATIENCE_S = 120.0
_PAGES = ("page_count", "freelist_count", "page_size")
_UNTIMED = {"SENTINEL_DEADLINE_MS": "5000", "SENTINEL_CIRCUIT_THRESHOLD_MS": "5000", "SENTINEL_AUTH": "off"}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=60_000)
    parser.add_argument("--per-second", type=int, default=5_000)
    parser.add_argument("--database-url")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sentinel-capacity-") as name:
        (Path(name) / "tenants").mkdir()
        facts = _measured(Path(name), given.transactions, given.per_second, given.database_url)
    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{platform.machine()}, Python {platform.python_version()}"
    )
    for what, figure in facts.items():
        print(f"{what:52}{figure:>14,.6g}")


def _measured(folder: Path, transactions: int, per_second: int, url: str | None) -> dict[str, float]:
    home = trained.trained_home(folder).rename(folder / "tenants" / "capacity")
    server = ServerProcess(home, _HOST, free_port(_HOST), environment=_UNTIMED)
    server.start()
    load = paced_load.PacedLoad(lambda: server.port, per_second)
    load.start()
    try:
        begun, cpu = time.monotonic(), _cpu_seconds(server.pid)
        while len(load.answers) < transactions:
            time.sleep(0.1)
        load.end()
        spent, took = _cpu_seconds(server.pid) - cpu, time.monotonic() - begun
        _wait_for_view(home)
        metrics, resident = _metrics(server.port), _resident(server.pid)
    finally:
        server.stop()
    n = len(load.answers)
    trained.run("log", "archive", "--to", folder / "archive", "--home", home)  # a file of the log is never full
    stored = [path for path in (folder / "archive").rglob("*") if path.suffix in (".segment", ".part")]
    sizes = {
        "log, closed segments compressed, bytes a decision": sum(path.stat().st_size for path in stored) / n,
        "view in SQLite, bytes a decision": _used(home / "views.db") / n,
    }
    keys = sum(value for line, value in metrics.items() if line.startswith("sentinel_state_keys"))
    state = sum(value for line, value in metrics.items() if line.startswith("sentinel_state_bytes"))
    if url is not None:
        sizes["view in PostgreSQL, bytes a decision"] = _in_postgres(home, url) / n
    return {
        "transactions": n,
        "transactions a second, as sent": n / took,
        "processor time of the server a decision, us": spent / n * 1e6,
        **sizes,
        "keys in memory": keys,
        "state in memory, bytes": state,
        "newest snapshot, bytes a key": _newest(home / "snapshots") / max(keys, 1),
        "resident memory of the server, MB": resident / 1e6,
    }


def _used(database: Path) -> int:
    """Bytes of the pages that a SQLite database uses."""
    with closing(sqlite3.connect(database)) as reader:
        pages, free, size = (reader.execute(f"PRAGMA {one}").fetchone()[0] for one in _PAGES)
    return int((pages - free) * size)


def _newest(folder: Path) -> int:
    return max(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns).stat().st_size


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{_HOST}:{port}/metrics/prom", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[:1] != "#"}


def _wait_for_view(home: Path) -> None:
    end = time.monotonic() + _PATIENCE_S
    while trained.run("views", "status", "--home", home)["lag"]:
        if time.monotonic() > end:
            sys.exit("the view does not come to the end")
        time.sleep(0.5)


def _in_postgres(home: Path, url: str) -> int:
    """Bytes of the view's tables and indexes in PostgreSQL."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    asked = """SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
        WHERE c.relkind = 'r' AND s.nspname = :name"""
    with engine.begin() as connection:
        if connection.scalar(sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": _SCHEMA}):
            sys.exit(f"the database has a schema {_SCHEMA} already; name one without")
    os.environ["SENTINEL_DATABASE_URL"] = url
    trained.run("views", "rebuild", "--home", home)
    del os.environ["SENTINEL_DATABASE_URL"]
    with engine.begin() as connection:
        found = connection.scalar(sa.text(asked), {"name": _SCHEMA})
        connection.exec_driver_sql(f'DROP SCHEMA "{_SCHEMA}" CASCADE')
    engine.dispose()
    return int(found or 0)


if __name__ == "__main__":
    main()
