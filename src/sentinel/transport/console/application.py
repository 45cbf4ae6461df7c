"""The console as an application: its pages, behind its entrance."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from sentinel.config import Settings, is_loopback
from sentinel.errors import InvalidDefinition, InvalidInput, SentinelError
from sentinel.events.times import duration_us
from sentinel.homes import keys_home_of, place_of
from sentinel.transport.access.origins import Origins
from sentinel.transport.access.store import KeyStore
from sentinel.transport.console.auditing import Auditing
from sentinel.transport.console.entrance import Cookie, Entrance
from sentinel.transport.console.load_test import LoadTester
from sentinel.transport.console.looks import Looks
from sentinel.transport.console.model_figures import Gates
from sentinel.transport.console.pages.admin import admin_pages
from sentinel.transport.console.pages.around import around_pages
from sentinel.transport.console.pages.business import business_pages
from sentinel.transport.console.pages.case import one_case_pages
from sentinel.transport.console.pages.cases import case_pages
from sentinel.transport.console.pages.design import design_pages
from sentinel.transport.console.pages.drift import drift_pages
from sentinel.transport.console.pages.lists import list_pages
from sentinel.transport.console.pages.live import live_pages
from sentinel.transport.console.pages.load import load_pages
from sentinel.transport.console.pages.logging_in import log_in_pages
from sentinel.transport.console.pages.models import model_pages
from sentinel.transport.console.pages.notifications import notification_pages
from sentinel.transport.console.pages.receipt import receipt_pages
from sentinel.transport.console.pages.rules import rule_pages
from sentinel.transport.console.pages.search import search_pages
from sentinel.transport.console.pages.signing_on import BACK, sign_on_pages
from sentinel.transport.console.pages.try_it import try_pages
from sentinel.transport.console.problems import nothing_there, problem_page
from sentinel.transport.console.room import Room
from sentinel.transport.console.samples import Samples
from sentinel.transport.console.server import Server
from sentinel.transport.console.static_files import add_static_files
from sentinel.transport.console.stored import Stored
from sentinel.transport.people.people import People
from sentinel.transport.people.provider import ReadToken
from sentinel.transport.people.sessions import Lasting, Sessions
from sentinel.transport.people.signing_on import sign_on_of


def address_of(settings: Settings) -> str:
    """The address that people type. Raises InvalidDefinition where passwords would travel in the open."""
    host = settings.console_host
    if settings.console_url is not None:
        parts = urlsplit(settings.console_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise InvalidDefinition("SENTINEL_CONSOLE_URL: write https://fraud.example, without a path")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise InvalidDefinition(
                "SENTINEL_CONSOLE_URL is not https: passwords and cookies would travel in the open; put a proxy that "
                "speaks TLS in front"
            )
        return settings.console_url.rstrip("/")
    has_tls = settings.tls_certificate is not None
    if not is_loopback(host) and not has_tls:
        raise InvalidDefinition(
            f"the console would take passwords at {host} in the open; set SENTINEL_CONSOLE_URL to the https address of "
            "the proxy in front of it, give it SENTINEL_TLS_CERTIFICATE and SENTINEL_TLS_KEY, or listen on 127.0.0.1"
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if has_tls else 'http'}://{shown}:{settings.console_port}"


def build(settings: Settings, people: People, read_token: ReadToken | None = None) -> ASGIApp:
    """The application; what asks the server runs while it does. Raises InvalidDefinition, StorageProblem.

    `read_token` is needed where a provider lets people in: it comes with the extra `oidc`.
    """
    address, place = urlsplit(address_of(settings)), place_of(settings.home)
    is_secure = address.scheme == "https"
    server = Server(settings.server_url or settings.url, settings.bearer, place, settings.tls_certificate)
    stored, auditing = Stored(settings), Auditing(people, server)
    samples = Samples(server, stored)
    tester, sign_on = LoadTester(server), sign_on_of(settings, people, f"{address.geturl()}{BACK}", read_token)
    lasting = Lasting(duration_us(settings.session_idle), duration_us(settings.session_longest))
    sessions, cookie = Sessions(people.database, lasting), Cookie(is_secure=is_secure)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        samples.start()
        auditing.start()
        yield
        tester.close()
        samples.stop()
        auditing.stop()
        stored.close()

    app = FastAPI(
        title="Sentinel console", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan,
        redirect_slashes=False,  # to an address without TLS, where a proxy speaks it
    )  # fmt: skip
    add_static_files(app)

    @app.get("/health/live")
    async def health() -> Response:
        return Response('{"live":true}', media_type="application/json")

    for router in (
        log_in_pages(people, sessions, cookie, sign_on, address.geturl(), takes_passwords=settings.local_log_in),
        live_pages(samples, stored, sessions, cookie, settings.deadline_ms),
        case_pages(server, stored, people),
        one_case_pages(server, stored, people),
        search_pages(stored, people),
        around_pages(stored, people),
        receipt_pages(server, stored, people),
        business_pages(server),
        drift_pages(server, stored),
        try_pages(server, stored, people, place.prefix),
        rule_pages(server, stored, people),
        list_pages(server, stored, people),
        load_pages(server, stored, people, tester, sessions, cookie, place.prefix),
        model_pages(server, stored, people, Gates(settings.home, stored)),
        admin_pages(server, people, KeyStore(keys_home_of(settings.home))),
        notification_pages(server, people),
        design_pages(),
    ):
        app.include_router(router)
    if sign_on is not None:
        app.include_router(sign_on_pages(sign_on, sessions, cookie, takes_passwords=settings.local_log_in))
    _tell_faults(app)
    origins = Origins(settings.console_host, (*settings.hosts, address.hostname or ""), (), is_tls=False)
    looks = Looks(settings.looks_per_minute)
    return Entrance(
        Room(app), sessions, cookie, origins, people, looks
    )  # around all: what breaks inside has its headers, too


def _tell_faults(app: FastAPI) -> None:
    """Have whatever is raised answered with a page that helps."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, SentinelError)  # noqa: S101 - registered for no other
        return problem_page(request, error)

    async def not_understood(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        first = error.errors()[0]
        return problem_page(request, InvalidInput(f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}"))

    async def not_there(request: Request, _error: Exception) -> Response:
        return nothing_there(request)

    async def broken(request: Request, _error: Exception) -> Response:
        return problem_page(request, SentinelError("Something went wrong inside; the console's log says what"))

    app.add_exception_handler(SentinelError, refused)
    app.add_exception_handler(RequestValidationError, not_understood)
    app.add_exception_handler(HTTPException, not_there)
    app.add_exception_handler(Exception, broken)
