"""Destinations: where messages go, which kinds go there, and one try to send one."""

import json
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol

from sentinel import __version__
from sentinel.config import Settings
from sentinel.record.written.outbox import Message
from sentinel.transport.messages.mail import MailTarget, mail_target_of, send_mail
from sentinel.transport.webhooks.addresses import Target, WrongAddress, resolve, target_of
from sentinel.transport.webhooks.posting import PostFailed, post
from sentinel.transport.webhooks.signature import HEADER, signature

WITHIN_S = 15.0
"""How long one try may take in all."""

_LEAST_S = 0.1  # for who was found at the last moment

ALARMS = (
    "drift.*", "gate.*", "retraining.*", "breaker.*", "rule.*", "follower.*", "delivery.*", "case.overdue",
    "notification.*",
)  # fmt: skip
"""The kinds that go by e-mail unless the settings say otherwise: those that an operator has to know."""


class SendFailed(Exception):
    """A try has failed; `for_good` when no other one will do better."""

    def __init__(self, why: str, *, for_good: bool = False) -> None:
        super().__init__(why)
        self.for_good = for_good


class Destination(Protocol):
    """Where messages go."""

    @property
    def name(self) -> str:
        """What it is called in the outbox."""

    @property
    def shown(self) -> str:
        """What people are shown of it: nothing that is secret."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of messages that go there, `*` standing for any part of one."""

    def send(self, message: Message, now_s: float) -> None:
        """Try once, within WITHIN_S. Raises SendFailed."""


class Webhook(NamedTuple):
    """An address that signed messages are posted to."""

    name: str
    target: Target
    kinds: Sequence[str]
    secret: str
    private: bool
    tls: ssl.SSLContext | None = None

    @property
    def shown(self) -> str:
        """The address, without its query."""
        return self.target.url

    def send(self, message: Message, now_s: float) -> None:
        """Post it, to the address that the name leads to now. Raises SendFailed."""
        body = body_of(message)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"sentinel/{__version__}",
            "Sentinel-Id": message.id,
            HEADER: signature(self.secret, int(now_s), body),
        }
        try:
            until_s = time.monotonic() + WITHIN_S
            address = resolve(self.target, WITHIN_S, private=self.private)
            post(self.target, address, body, headers, max(until_s - time.monotonic(), _LEAST_S), self.tls)
        except WrongAddress as error:
            raise SendFailed(str(error)) from None
        except PostFailed as error:
            raise SendFailed(str(error), for_good=error.is_gone) from None


class Mail(NamedTuple):
    """People who get messages by e-mail."""

    name: str
    target: MailTarget
    kinds: Sequence[str]

    @property
    def shown(self) -> str:
        """To whom, and through which server."""
        return f"{', '.join(self.target.to)} through {self.target.host}:{self.target.port}"

    def send(self, message: Message, now_s: float) -> None:
        """Send it. Raises SendFailed."""
        try:
            send_mail(self.target, message, now_s, WITHIN_S)
        except (OSError, WrongAddress) as error:  # smtplib's are some of the former
            raise SendFailed(" ".join(str(error).split())[:300]) from None


def body_of(message: Message) -> bytes:
    """What is posted: the message's id, kind, subject and moment, and `data`, which is its own."""
    at = datetime.fromtimestamp(message.put_us / 1e6, UTC).isoformat().replace("+00:00", "Z")
    said = {"id": message.id, "kind": message.kind, "about": message.about, "at": at}
    return json.dumps({**said, "data": json.loads(message.body)}, separators=(",", ":")).encode()


def destinations_of(settings: Settings) -> list[Destination]:
    """Where messages go by the settings. Raises InvalidDefinition for what cannot be used."""
    found: list[Destination] = []
    secret = settings.webhook_key() if settings.webhook_url else ""
    for n, url in enumerate(settings.webhook_url, 1):
        target = target_of(url, private=settings.webhook_private)
        found.append(Webhook(f"webhook {n}", target, settings.webhook_kinds, secret, settings.webhook_private))
    if settings.mail_to:
        target_of_mail = mail_target_of(settings.smtp_url, settings.mail_from, settings.mail_to)
        found.append(Mail("e-mail", target_of_mail, settings.mail_kinds or ALARMS))
    return found


def wanted_by(destinations: Sequence[Destination], message: Message) -> list[str]:
    """The names of those that a message goes to: of what cannot be delivered the others are told."""
    return [
        one.name
        for one in destinations
        if any(fnmatchcase(message.kind, kind) for kind in one.kinds)
        and not (message.kind == "delivery.parked" and message.about == one.name)
    ]
