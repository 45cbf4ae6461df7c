"""`sentinel console`: the pages that people work in, in a process of its own."""

import logging
from collections.abc import Callable
from typing import Any

from sentinel.commands.people import people_of
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition
from sentinel.events.times import clock_us
from sentinel.record.applied import by_this_user
from sentinel.transport.people.passwords import new_password
from sentinel.transport.people.people import ADMIN

NEEDED = ("jinja2", "python_multipart", "argon2", "joserfc")
"""What the extras `console` and `oidc` bring."""


def run_console(settings: Settings, tell: Callable[[str], None]) -> None:
    """Answer until Ctrl-C or SIGTERM; `tell` is told the address, and the first password where there is nobody yet.

    Raises InvalidDefinition, StorageProblem.
    """
    try:
        import uvicorn

        from sentinel.transport.console.application import address_of, build
        from sentinel.transport.console.patience import PatientProtocol

        read_token: Callable[[str, Any], dict[str, Any]] | None = None
        if settings.oidc_issuer is not None:
            from sentinel.transport.people.id_tokens import claims_of

            read_token = claims_of
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        extras = "console,oidc" if settings.oidc_issuer is not None else "console"
        raise InvalidDefinition(f"the console needs {error.name}: pip install 'sentinel-fraud[{extras}]'") from None
    address, people = address_of(settings), people_of(settings)
    application = build(settings, people, read_token)
    password = new_password()
    if settings.local_log_in and people.add_first(password, by_this_user("console", ADMIN), clock_us()) is not None:
        tell(f"first log-in: {ADMIN}, password {password} (shown this once; you choose another one then)")
    tell(f"{address}, home {settings.home}")
    logging.getLogger("uvicorn.access").disabled = True  # addresses of pages hold what was searched for
    uvicorn.run(
        application, http=PatientProtocol, host=settings.console_host, port=settings.console_port, log_config=None,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=2,
        ssl_certfile=settings.tls_certificate if settings.console_url is None else None,
        ssl_keyfile=settings.tls_key if settings.console_url is None else None,
    )  # fmt: skip
    people.database.close()
