"""Calls to real servers through a proxy that cuts connections: three tries, 10 and 15 ms apart, and no fourth."""

import os
import secrets
import socket
import threading
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from sentinel.errors import StorageProblem
from sentinel.model.s3_models import S3Models
from sentinel.record.online.store import OnlineStore
from sentinel.record.views.postgres import Database


class Cutting:
    """Accepts connections, closes the first `cut` of them at once, and passes the others on."""

    def __init__(self, host, port, cut):
        self.target, self.cut, self.accepted = (host, port), cut, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.accepted += 1
                if self.accepted <= self.cut:
                    client.close()
                    continue
                server = socket.create_connection(self.target)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self.pump, args=pair, daemon=True).start()

    @staticmethod
    def pump(source, sink):
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def cutting(address, cut):
    parts = urlsplit(address)
    proxy = Cutting(parts.hostname, parts.port, cut)
    try:
        yield proxy
    finally:
        proxy.listener.close()


def through(address, proxy):
    parts = urlsplit(address)
    return address.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{proxy.port}")


def of_redis(service, folder, monkeypatch):
    url = service("redis").environment["REDIS_URL"]

    def call(proxy):
        with closing(OnlineStore(through(url, proxy), "tries")) as store:
            store.exercise()

    return url, call


def of_postgres(service, folder, monkeypatch):
    running = service("postgres")
    address = sa.make_url(running.url).set(drivername="postgresql", password=running.environment["PGPASSWORD"])
    url = address.render_as_string(hide_password=False)

    def call(proxy):
        database = Database(through(url, proxy), f"sentinel${secrets.token_hex(6)}")
        try:
            database.prepare()
            database.drop()
        finally:
            database.engine.dispose()

    return url, call


def of_s3(service, folder, monkeypatch):
    running = service("s3")
    bucket = f"s3://tries-{secrets.token_hex(6)}"

    def call(proxy):
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        S3Models(bucket, folder, os.environ)._objects.make()
        monkeypatch.setenv("AWS_ENDPOINT_URL", through(running.url, proxy))
        S3Models(bucket, folder, os.environ).versions()

    return running.url, call


@pytest.mark.parametrize("of", [of_redis, of_postgres, of_s3], ids=["redis", "postgres", "s3"])
@pytest.mark.parametrize(("cut", "works"), [(2, True), (9, False)])
def test_a_call_is_tried_three_times(of, cut, works, service, tmp_path, monkeypatch):
    address, call = of(service, tmp_path, monkeypatch)
    with cutting(address, cut) as proxy:
        if works:
            call(proxy)
        else:
            with pytest.raises(StorageProblem):
                call(proxy)
            assert proxy.accepted == 3
