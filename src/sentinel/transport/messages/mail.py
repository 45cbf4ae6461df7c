"""E-mail: a message as plain text through an SMTP server, over TLS where there is a password."""

import contextlib
import json
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from email.message import EmailMessage
from email.utils import formatdate
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from sentinel.config import is_loopback
from sentinel.errors import InvalidDefinition
from sentinel.record.written.outbox import Message
from sentinel.transport.webhooks.addresses import addresses_of

_PORTS = {"smtp": 25, "smtps": 465}


class MailTarget(NamedTuple):
    """An SMTP server, and from whom to whom its mail goes."""

    scheme: str
    host: str
    port: int
    user: str | None
    password: str | None
    sender: str
    to: Sequence[str]


def mail_target_of(url: str | None, sender: str | None, to: Sequence[str]) -> MailTarget:
    """Read the settings of e-mail. Raises InvalidDefinition, and shows no password."""
    wrong = "SENTINEL_SMTP_URL: write smtp://[user:password@]host[:port], or smtps:// for TLS from the start"
    try:
        parts = urlsplit(url or "")
        port, host = parts.port, parts.hostname
    except ValueError:
        raise InvalidDefinition(wrong) from None
    if parts.scheme not in _PORTS or not host or parts.path.strip("/") or parts.query:
        raise InvalidDefinition(wrong)
    for name, address in (("MAIL_FROM", sender or ""), *(("MAIL_TO", one) for one in to)):
        if address.count("@") != 1 or not address.isascii() or not address.isprintable() or set(address) & set(" ,;<>"):
            raise InvalidDefinition(f"SENTINEL_{name}: write plain addresses, as fraud@bank.example")
    user, password = (None if one is None else unquote(one) for one in (parts.username, parts.password))
    return MailTarget(parts.scheme, host, port or _PORTS[parts.scheme], user, password, sender or "", to)


class _Plain(smtplib.SMTP):
    """A client that connects to one of the addresses that were looked up before."""

    def __init__(self, name: str, addresses: Sequence[str], within_s: float) -> None:
        super().__init__(timeout=within_s)
        self._host, self._addresses = name, addresses  # the certificate of STARTTLS is looked at for this name

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # noqa: ARG002 - smtplib's own
        return _connected(self._addresses, port, timeout)


class _Secured(smtplib.SMTP_SSL):
    """The same with TLS from the start."""

    def __init__(self, name: str, addresses: Sequence[str], within_s: float) -> None:
        super().__init__(timeout=within_s, context=ssl.create_default_context())
        self._host, self._addresses = name, addresses

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = _connected(self._addresses, port, timeout)
        return self.context.wrap_socket(plain, server_hostname=host)


def _connected(addresses: Sequence[str], port: int, timeout: float) -> socket.socket:
    """A connection to the first address that takes one. Raises the OSError of the last."""
    for address in addresses[:-1]:
        with contextlib.suppress(OSError):
            return socket.create_connection((address, port), timeout / len(addresses))
    return socket.create_connection((addresses[-1], port), timeout / len(addresses))


def send_mail(target: MailTarget, message: Message, now_s: float, within_s: float) -> None:
    """Send it, once; all of it takes `within_s` at most, however slowly the server speaks.

    Raises OSError, of which those of smtplib are some, and WrongAddress.
    """
    until_s = time.monotonic() + within_s
    kind = _Secured if target.scheme == "smtps" else _Plain
    client = kind(target.host, addresses_of(target.host, target.port, within_s), within_s)
    with _bounded(client, max(until_s - time.monotonic(), 0.1), within_s):
        _talk(client, target, message, now_s)


@contextlib.contextmanager
def _bounded(client: smtplib.SMTP, left_s: float, within_s: float) -> Iterator[None]:
    """Cut the connection when the time is over: a timeout of the socket begins anew with every byte."""
    is_over, is_done = threading.Event(), threading.Event()

    def watch() -> None:
        if is_done.wait(left_s):
            return
        is_over.set()
        while not is_done.wait(0.1):  # while it connects, or begins TLS, the socket is not there yet
            if client.sock is not None:
                with contextlib.suppress(OSError):
                    client.sock.shutdown(socket.SHUT_RDWR)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    except OSError:
        if is_over.is_set():
            raise TimeoutError(f"the mail server did not take it within {within_s:g} s") from None
        raise
    finally:
        is_done.set()
        watching.join()


def _talk(client: smtplib.SMTP, target: MailTarget, message: Message, now_s: float) -> None:
    with client:
        client.connect(target.host, target.port)
        if target.scheme == "smtp":
            client.ehlo()
            if client.has_extn("starttls"):
                client.starttls(context=ssl.create_default_context())
            elif target.password is not None and not is_loopback(target.host):
                raise smtplib.SMTPException("the server takes the password in clear only: use smtps://")
        if target.user is not None:
            client.login(target.user, target.password or "")
        client.send_message(letter_of(target, message, now_s), target.sender, target.to)


def letter_of(target: MailTarget, message: Message, now_s: float) -> EmailMessage:
    """The message as an e-mail: its `text` if it has one, else all that it says."""
    said = json.loads(message.body)
    letter = EmailMessage()
    letter["From"], letter["To"] = target.sender, ", ".join(target.to)
    letter["Subject"] = _line(f"Sentinel: {message.kind}: {message.about}")
    letter["Date"], letter["Message-ID"] = formatdate(now_s), f"<{message.id}@sentinel>"
    text = said["text"] if isinstance(said, dict) and isinstance(said.get("text"), str) else None
    letter.set_content(text or json.dumps(said, indent=2, ensure_ascii=False))
    return letter


def _line(text: str) -> str:
    """One line of at most 150 characters: what is in a name shall not become a header."""
    return "".join(one if one.isprintable() else " " for one in text)[:150]
