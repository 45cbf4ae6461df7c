"""E-mail: a message as plain text through an SMTP server, over TLS where there is a password."""

import json
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from sentinel.config import is_loopback
from sentinel.errors import InvalidDefinition
from sentinel.record.written.outbox import Message

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


def send_mail(target: MailTarget, message: Message, now_s: float, within_s: float) -> None:
    """Send it, once. Raises OSError, of which those of smtplib are some."""
    client: smtplib.SMTP
    if target.scheme == "smtps":
        client = smtplib.SMTP_SSL(target.host, target.port, timeout=within_s, context=ssl.create_default_context())
    else:
        client = smtplib.SMTP(target.host, target.port, timeout=within_s)
    with client:
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
