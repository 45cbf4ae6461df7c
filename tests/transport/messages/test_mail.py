"""E-mail through a real SMTP server, which is as small as one can be."""

import email
import email.policy
import socket
import ssl
import threading
import time
from contextlib import suppress

import pytest
import trustme

from sentinel.errors import InvalidDefinition
from sentinel.record.written.outbox import Message
from sentinel.transport.messages.destinations import Mail, SendFailed
from sentinel.transport.messages.mail import mail_target_of, send_mail


class MailServer:
    """Takes mail, one connection after the other; `refuses` says what it answers to a sender. With `tls` it offers that."""

    def __init__(self, tls=None):
        self.letters, self.said, self.refuses, self._tls = [], [], None, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)

    def _run(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                if not self._talk(stream, "220 here"):
                    continue
                with (
                    suppress(ssl.SSLError),
                    self._tls.wrap_socket(connection, server_side=True) as secured,
                    secured.makefile("rwb") as within,
                ):
                    self._talk(within)

    def _talk(self, stream, greeting=None):
        """What a client says and is answered, to the end, or to where it goes on within TLS: True."""

        def say(line):
            stream.write(line.encode() + b"\r\n")
            stream.flush()

        if greeting:
            say(greeting)
        while line := stream.readline().decode().strip():
            self.said.append(line)
            word = line[:4].upper()
            if word == "QUIT":
                say("221 bye")
                return False
            if word == "STAR":
                say("220 go on")
                return True
            if word == "EHLO" and self._tls and greeting:
                say("250-here")
                say("250 STARTTLS")
                continue
            if word == "DATA":
                say("354 go on")
                letter = b""
                while (part := stream.readline()) != b".\r\n":
                    letter += part
                self.letters.append(email.message_from_bytes(letter, policy=email.policy.default))
            say(self.refuses if self.refuses and word == "MAIL" else "250 fine")
        return False


@pytest.fixture
def server():
    made = MailServer()
    yield made
    made.close()


def mail(server, **more):
    url = f"smtp://127.0.0.1:{server.port}"
    return Mail("e-mail", mail_target_of(url, "fraud@bank.example", ("ops@bank.example", "b@bank.example")), ("*",))


def message(text, about="the view", kind="follower.stuck"):
    return Message("m1", kind, about, text, 1_700_000_000_000_000)


def test_an_alarm_is_a_letter_that_says_what_it_is(server):
    mail(server).send(message('{"text":"The view does not get on: Müller\\u2019s disk is full"}'), time.time())
    (letter,) = server.letters
    assert letter["subject"] == "Sentinel: follower.stuck: the view"
    assert (letter["from"], letter["to"]) == ("fraud@bank.example", "ops@bank.example, b@bank.example")
    assert letter.get_content().strip() == "The view does not get on: Müller\u2019s disk is full"
    assert letter["message-id"] == "<m1@sentinel>"
    assert sum(line.upper().startswith("RCPT") for line in server.said) == 2


@pytest.mark.parametrize(("named", "is_taken"), [("localhost", True), ("elsewhere.example", False)])
def test_over_tls_the_server_has_to_be_the_one_that_is_named(monkeypatch, tmp_path, named, is_taken):
    """And of several addresses of a name the next is tried: `localhost` may be `::1` first, where nobody listens."""
    authority, tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(named).configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    server = MailServer(tls)
    try:
        target = mail_target_of(f"smtp://localhost:{server.port}", "fraud@bank.example", ("ops@bank.example",))
        if is_taken:
            send_mail(target, message('{"text":"x"}'), time.time(), 60.0)
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                send_mail(target, message('{"text":"x"}'), time.time(), 60.0)
    finally:
        server.close()
    assert len(server.letters) == is_taken
    assert "STARTTLS" in server.said


def test_a_hostile_subject_becomes_no_header(server):
    mail(server).send(message('{"state":"x"}', about="t1\r\nBcc: evil@x.example\u202e" + "y" * 5_000), time.time())
    (letter,) = server.letters
    assert letter["bcc"] is None
    assert len(letter["subject"]) < 200
    assert '"state": "x"' in letter.get_content()


def test_a_server_that_refuses_is_heard(server):
    server.refuses = "550 not you"
    with pytest.raises(SendFailed, match="not you"):
        mail(server).send(message('{"text":"x"}'), time.time())
    assert server.letters == []


def test_nobody_there_is_said(server):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    target = mail_target_of(f"smtp://127.0.0.1:{port}", "a@b.example", ("c@d.example",))
    with pytest.raises(SendFailed, match="refused"):
        Mail("e-mail", target, ("*",)).send(message("{}"), time.time())


@pytest.mark.parametrize(
    ("url", "sender", "to"),
    [
        (None, "a@b.example", ("c@d.example",)), ("http://x/", "a@b.example", ("c@d.example",)),
        ("smtp://h", None, ("c@d.example",)), ("smtp://h", "a@b.example", ("c",)),
        ("smtp://h:99999", "a@b.example", ("c@d.example",)), ("smtp://h", "a@b.example", ("c@d.example\nBcc: x@y",)),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_without_the_password(url, sender, to):
    with pytest.raises(InvalidDefinition, match=r"SENTINEL_(SMTP_URL|MAIL_)"):
        mail_target_of(url, sender, to)


def test_a_server_that_speaks_a_sign_at_a_time_is_left_when_the_time_is_over():
    """Each sign comes before any timeout of the socket: without a bound on the whole it would never end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip():
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.sendall(b"220")
                while True:
                    connection.sendall(b"-")
                    time.sleep(0.02)

        thread = threading.Thread(target=drip)
        thread.start()
        target = mail_target_of(f"smtp://127.0.0.1:{listener.getsockname()[1]}", "a@b.example", ("c@d.example",))
        with pytest.raises(TimeoutError, match="the mail server did not take it within"):
            send_mail(target, message("{}"), 1_700_000_000.0, 1.0)
        thread.join(60)
        assert not thread.is_alive()  # the connection was cut
