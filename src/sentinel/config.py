"""What an operator may change: read once from the environment and the command line, then handed on as values."""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from sentinel.environment import given_in
from sentinel.errors import InvalidDefinition
from sentinel.events.secrets import CardNumbers, GivenKey, Secrets, read_secrets
from sentinel.events.times import duration_us

DEFAULT_HOME = Path(".sentinel")
SHORTEST_KEY = 16
"""Characters of a key. Those that Sentinel makes have 46."""

_KEYS = ("admin_key", "key")
_SECRETS = ("webhook_secret",)
_SECRET_KEYS = ("hash_key", "hash_key_before", "fronts_key", "fronts_key_also")
_SHORTEST_SECRET, _FEWEST_SIGNS = 32, 8  # characters, and different ones among them
_GUARDS = ("auth", "rules_need_two", "trusted_keys_file", "local_log_in")
"""What protects: a variable that was meant to turn one on, and is empty, must not leave it off without a word."""
_SWITCHES = {
    "force_circuit_open", "shadow_inline", "reasons", "cases", "fronts", "rules_need_two", "local_log_in",
    "webhook_private",
}  # fmt: skip
_ON_OFF = {"yes": True, "on": True, "no": False, "off": False}  # besides true, false, 1 and 0
_TOPICS = re.compile(r"[A-Za-z0-9._-]{0,100}")
_LISTS = (
    "cors_origins", "hosts", "retrain_on", "oidc_roles", "webhook_url", "webhook_kinds", "mail_to", "mail_kinds",
)  # fmt: skip


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of a server. Every one can be given as `SENTINEL_<NAME>` in the environment.

    An empty variable counts as not set, but for keys, `rules_need_two`, `local_log_in` and `trusted_keys_file`, which
    may not be empty.
    White space around a value does not count. A switch is on with 1, true, yes or on, and off with 0, false, no or off,
    in letters of any case.

    - `home`: the folder of models, log, snapshots and views.
    - `host`, `port`, `workers`: where to listen, in how many processes.
    - `tls_certificate`, `tls_key`: PEM files; with both the server speaks HTTPS.
    - `cors_origins`: web pages that may call the API from a browser, such as `https://console.example`.
    - `hosts`: names under which the server is reached besides loopback's and addresses, such as `fraud.example`; `*`
      for any.
    - `auth`: `required` has every call bear a key; `off` answers this machine without one. Without it keys are required
      unless `host` is loopback; elsewhere they cannot be switched off.
    - `admin_key`: a key that may do everything, of 16 characters or more. With one, the admin calls need a key from
      this machine too.
    - `key`: what the commands that call a server send it; without one they send `admin_key`.
    - `signing_key_file`: the private key that `sentinel train` signs models with (`sentinel models keygen`).
      `trusted_keys_file`: public keys; with them a model that none of them has signed is refused.
    - `max_body_bytes`, `max_batch`: the largest request body, and the most transactions in one.
    - `max_connections`: connections that may be open, in each process; no more than the system's limit of open files
      leaves room for. One more is told so with 503.
    - `head_timeout_s`, `body_timeout_s`: how long a client may take to send a request's head, and then its body;
      for a TLS handshake it has as long as for a head.
      `unread_timeout_s`: how long one that does not read its answers is waited for.  `idle_timeout_s`: after how long
      a connection is closed on which nothing comes in; up to twice as long may pass.
    - `max_waiting`: transactions that may wait for a decision before callers get 503; one caller's may be four fifths.
    - `outcomes_per_minute`, `events_per_minute`: outcomes, and context events, that one API key may tell in a minute;
      more get 429.
    - `deadline_ms`: when an answer is due. Requests that wait too long are not decided by the model, but as the
      detector's `on_fault` says. A caller's `x-deadline-ms` counts from `least_deadline_ms` to `longest_deadline_ms`;
      what is outside is taken as the nearer of the two. With less than the first a caller would choose not to
      be judged by the model: half of a deadline is for waiting, and a server that keeps up has nobody wait longer than
      10 ms. With more than the second its requests would hold places in the queue that others need.
    - `circuit_threshold_ms`: how long one model call may take. `force_circuit_open` and `inject_latency_ms` are there
      to try what happens when the model is away or slow.
    - `cache_entries`, `cache_ttl_s`: scores of feature vectors that are remembered, and for how long.
    - `shadow_inline`: answers of `/v1/score` have the shadow's score, where it is there in time.
    - `rules_need_two`: who has drafted rules or thresholds may not apply them, nor roll back to them.
    - `reasons`: the reasons of what is not approved are found beside the deciding, and recorded.
    - `fronts`: whether messages of the topic `transactions` may bring the answer that a front gave.  `fronts_key`,
      `fronts_key_file`: what fronts seal their answers with, and whoever takes them knows them by; 32 random characters
      or more.  `fronts_key_also`, `fronts_key_also_file`: another key whose seals are taken, while the key is changed.
    - `cases`: what asks for a person is made into cases, beside the deciding.  `cases_by`: the key that they are
      grouped by, instead of the first of the schema.  `keep_cases`: how long a case is kept after it was decided or
      closed, such as `730d`, or `forever`.  `case_deadlines`: how soon a case is due, by its expected loss:
      `high:1h:100,normal:8h:10,low:3d`.
    - `false_alarm_cost`: what a false alarm costs, in the unit of the amount, for experiments.
    - `drift_window`: transactions that are compared with the training history.
    - `shadow_scores`: the newest scores of shadows that are kept in `shadow.db`, about 160 bytes each.
    - `snapshot_every`: entries after which the features' state is saved again.  `last_snapshot_s`: how long the last
      save at the end may take.
    - `keep_log`: how long the log is kept, such as `180d`, or `forever`.  `remember_ids`: how long a transaction that
      is sent again gets its stored answer; the log is never kept for less.
    - `archive`: where log, snapshots and models are copied to as they come, `s3://bucket/prefix` or a folder; nothing
      leaves the log before it is there.  `keep_archive`: how long segments of the log are kept there.
    - `database_url`: the PostgreSQL database that views are in, `postgresql://user:password@host:5432/database`, each
      in a schema of its own; without it a view is a file in its home folder. Needs the extra `postgres`.
    - `log`: `file`, or `kafka`: then the log is in the topic PREFIXdecisions of the brokers in `kafka` (host:port,...),
      where PREFIX is `kafka_prefix`; `sentinel consume`, `send` and `topics` use these, too. Other settings of the
      client, such as SASL and TLS, are SENTINEL_KAFKA_ and librdkafka's name: SENTINEL_KAFKA_SECURITY_PROTOCOL. Needs
      the extra `kafka`.  `avro_schemas`: the schemas of Avro messages, a folder of `<number>.avsc` or the address of a
      schema registry.
    - `transactions_to`: where `POST /api/v1/transactions` puts what is handed in: the `log`, decided at once, or
      `kafka`, the topic PREFIXtransactions, which `sentinel consume` reads. Of the detector without a name.
    - `redis_url`: the Redis or Valkey that the newest features and the profile of each key are written to,
      `redis://user:password@host:6379/0` or `rediss://` over TLS. Needs the extra `redis`.
    - `profiles`: `redis` has `sentinel serve` be a wide front: it keeps no state, answers from the profiles that are
      there, and hands over to the topic `transactions`.  `claims_kept`: how long an answer is kept in Redis for other
      fronts, where the same transaction may be sent again.
    - `models`: `s3://bucket/prefix`, where models are kept instead of in the home folder, which then has copies of
      those in use. The AWS_... variables say where that is and with which keys.
    - `log_style`: `text` or `json`.  `log_level`: the lowest that is logged.  `log_to`: a file for the
      own messages, instead of standard error; rotated at 5 MB, five older ones are kept.
    - `hash_key`, `hash_key_file`: the key of what is secret, or the file it is in; at least 32 random characters, with
      `2:` before the second one you use. Without it card numbers are hashed with a key that is made in the home folder,
      and a schema that declares secrets is refused.  `hash_key_before`, `hash_key_before_file`: the one that it
      follows, until everything that was hashed with that is forgotten: `sentinel doctor` says when.
    - `card_numbers`: what happens to card numbers in other fields: `hash`, `refuse` or `allow`.
    - `parts_of_hashes`: whether a text that is a hash already may bring the digits or the domain that were taken from
      it before, as `demo` and `parity` send on from a file to the server that they start. Others could write there what
      they like.
    - `otlp_endpoint`: where to send traces; needs the extra `tracing`.
    - `label_delay`: after which time a decision without an outcome counts as no fraud, in the report on drift.
    - `retrain`: when the server has a new model trained, as cron writes it, in UTC (`0 3 * * *`).  `retrain_on`: other
      reasons for that, `drift` and `labels:500` (so many new outcomes).  `retrain_detector`, `retrain_data`: what of,
      and from which history; `retrain_warm_start`: whether trees are added to the champion, too;
      `retrain_memory_mb`: how much memory that may take.  Only of the detector without a name.
    - `feast_python`: the interpreter of an environment that has Feast, for `sentinel feast apply` and `materialize`.
    - `flink_python`: the interpreter of an environment that has PyFlink and what this package needs, for
      `sentinel flink run`; the connector's jars are in the folder `jars` of that environment.
    - `spark_python`: the interpreter of an environment that has PySpark, pyarrow and what this package needs, for
      `sentinel features build --engine spark`.
    - `console_host`, `console_port`: where `sentinel console` listens.  `console_url`: the address that people type,
      where that is another one, such as that of a proxy: `https://fraud.example`.  `server_url`: the server that the
      console asks; without it the one that `host` and `port` name.
    - `session_idle`, `session_longest`: how long a person stays logged in to the console while nothing comes, and
      at most.
    - `looks_per_minute`: receipts and searches that one person may open in a minute; more have to wait.
    - `local_log_in`: whether the console takes passwords of its own people.
    - `oidc_issuer`: the provider of OpenID Connect that lets people in, as `https://login.example`; `oidc_client_id`
      and `oidc_client_secret`: by which it knows the console, and `oidc_scopes`. `oidc_name_claim` says who it is,
      `oidc_role_claim` what their role follows from, `oidc_roles` which: `fraud-team:analyst`. Needs the extra `oidc`.
    - `webhook_url`: addresses that messages are posted to, signed with `webhook_secret`, or what is in
      `webhook_secret_file`.  `webhook_kinds`: which, `decision.*,case.*`; all, unless said.  `webhook_private`: whether
      receivers in a private network, and http, are meant.
    - `mail_to`: who gets alarms by e-mail, from `mail_from` through `smtp_url`, `smtp://user:password@host:587` or
      `smtps://`.  `mail_kinds`: which kinds; what operators have to know, unless said.
    - `notify_quiet`: how long nobody is told of a condition again that ends and begins anew.
    - `shutdown_s`: how long requests in flight may take to finish after SIGTERM.
    """

    home: Path = DEFAULT_HOME
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 8000
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    cors_origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    auth: Literal["required", "off"] | None = None
    admin_key: str | None = None
    key: str | None = None
    signing_key_file: Path | None = None
    trusted_keys_file: Path | None = None
    max_body_bytes: int = 2**20
    max_batch: int = 1000
    max_connections: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    head_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    body_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    unread_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    idle_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 75.0
    max_waiting: int = 10_000
    outcomes_per_minute: Annotated[int, msgspec.Meta(ge=1)] = 6_000
    events_per_minute: Annotated[int, msgspec.Meta(ge=1)] = 60_000
    deadline_ms: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    least_deadline_ms: Annotated[float, msgspec.Meta(gt=0)] = 20.0
    longest_deadline_ms: Annotated[float, msgspec.Meta(gt=0)] = 60_000.0
    circuit_threshold_ms: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    force_circuit_open: bool = False
    inject_latency_ms: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    cache_entries: Annotated[int, msgspec.Meta(ge=0)] = 10_000
    cache_ttl_s: Annotated[float, msgspec.Meta(ge=0)] = 2.0
    shadow_inline: bool = False
    reasons: bool = True
    cases: bool = False
    fronts: bool = False
    fronts_key: str | None = None
    fronts_key_file: Path | None = None
    fronts_key_also: str | None = None
    fronts_key_also_file: Path | None = None
    cases_by: str | None = None
    keep_cases: str = "forever"
    case_deadlines: str = "high:1h:100,normal:8h:10,low:3d"
    rules_need_two: bool = False
    false_alarm_cost: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    drift_window: Annotated[int, msgspec.Meta(ge=500)] = 5000
    shadow_scores: Annotated[int, msgspec.Meta(ge=1)] = 5_000_000
    snapshot_every: Annotated[int, msgspec.Meta(ge=1)] = 250_000
    last_snapshot_s: Annotated[float, msgspec.Meta(ge=0)] = 15.0
    keep_log: str = "180d"
    remember_ids: str = "180d"
    archive: str | None = None
    keep_archive: str = "forever"
    profiles: Literal["redis"] | None = None
    claims_kept: str = "5m"
    database_url: str | None = None
    log: Literal["file", "kafka"] = "file"
    kafka: str | None = None
    kafka_prefix: str | None = None
    avro_schemas: str | None = None
    transactions_to: Literal["log", "kafka"] = "log"
    redis_url: str | None = None
    models: str | None = None
    log_style: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "WARNING"
    log_to: Path | None = None
    hash_key: str | None = None
    hash_key_file: Path | None = None
    hash_key_before: str | None = None
    hash_key_before_file: Path | None = None
    card_numbers: CardNumbers = "hash"
    parts_of_hashes: bool = False
    otlp_endpoint: str | None = None
    label_delay: str = "30d"
    retrain: str | None = None
    retrain_on: tuple[str, ...] = ()
    retrain_detector: str = "payments"
    retrain_data: Path | None = None
    retrain_warm_start: bool = False
    retrain_memory_mb: Annotated[int, msgspec.Meta(ge=256)] = 3_000
    feast_python: Path | None = None
    flink_python: Path | None = None
    spark_python: Path | None = None
    console_host: str = "127.0.0.1"
    console_port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 8080
    console_url: str | None = None
    server_url: str | None = None
    session_idle: str = "30m"
    session_longest: str = "12h"
    looks_per_minute: Annotated[int, msgspec.Meta(ge=1)] = 120
    local_log_in: bool = True
    oidc_issuer: str | None = None
    oidc_client_id: str | None = None
    oidc_client_secret: str | None = None
    oidc_scopes: str = "openid email profile"
    oidc_name_claim: str = "email"
    oidc_role_claim: str = "groups"
    oidc_roles: tuple[str, ...] = ()
    webhook_url: tuple[str, ...] = ()
    webhook_kinds: tuple[str, ...] = ("*",)
    webhook_secret: str | None = None
    webhook_secret_file: Path | None = None
    webhook_private: bool = False
    smtp_url: str | None = None
    mail_from: str | None = None
    mail_to: tuple[str, ...] = ()
    mail_kinds: tuple[str, ...] = ()
    notify_quiet: str = "1h"
    shutdown_s: int = 10

    def __post_init__(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise InvalidDefinition("tls_certificate and tls_key belong together; give both or none")
        if self.least_deadline_ms > self.longest_deadline_ms:
            raise InvalidDefinition(
                f"least_deadline_ms ({self.least_deadline_ms:g}) is above longest_deadline_ms "
                f"({self.longest_deadline_ms:g}); a caller's deadline has to lie between them"
            )
        if (self.retrain or self.retrain_on) and self.workers > 1:
            raise InvalidDefinition(
                "retrain and retrain_on need workers=1: several processes keep no log to learn from"
            )
        if self.log == "kafka" and self.kafka is None:
            raise InvalidDefinition("SENTINEL_LOG=kafka needs SENTINEL_KAFKA, the brokers as host:port,host:port")
        if self.transactions_to == "kafka" and self.kafka is None:
            raise InvalidDefinition(
                "SENTINEL_TRANSACTIONS_TO=kafka needs SENTINEL_KAFKA, the brokers as host:port,host:port"
            )
        if not _TOPICS.fullmatch(self.kafka_prefix or ""):
            raise InvalidDefinition(
                f"SENTINEL_KAFKA_PREFIX is {self.kafka_prefix!r}; topics' names have letters, digits, '.', '_' and "
                "'-', and it may have 100 of them"
            )
        if self.oidc_issuer is not None and (self.oidc_client_id is None or not self.oidc_roles):
            raise InvalidDefinition(
                "SENTINEL_OIDC_ISSUER needs SENTINEL_OIDC_CLIENT_ID, and SENTINEL_OIDC_ROLES: which role follows from "
                "which value of the claim, as fraud-team:analyst"
            )
        if not self.local_log_in and self.oidc_issuer is None:
            raise InvalidDefinition(
                "SENTINEL_LOCAL_LOG_IN=off leaves nobody a way in; set SENTINEL_OIDC_ISSUER as well"
            )
        for name in (*_KEYS, *_SECRETS):
            _check_key(f"SENTINEL_{name.upper()}", getattr(self, name))
        if self.auth == "off" and not is_loopback(self.host):
            raise InvalidDefinition(
                f"SENTINEL_AUTH=off answers this machine only, and the host is {self.host}; leave it out and make keys "
                "with `sentinel keys create`, or listen on 127.0.0.1"
            )
        duration_us(self.remember_ids)
        duration_us(self.session_idle)
        duration_us(self.session_longest)
        duration_us(self.claims_kept)
        duration_us(self.notify_quiet)
        duration_us(self.label_delay)
        age_us(self.keep_log)
        age_us(self.keep_cases)

    def secrets(self) -> Secrets:
        """How secrets are hidden. Raises InvalidDefinition for a hash key that cannot be used."""
        given = GivenKey("hash_key", self.hash_key, self.hash_key_file)
        return read_secrets(self.home, given, self.given_key_before, self.card_numbers)

    def webhook_key(self) -> str:
        """What webhooks are signed with. Raises InvalidDefinition where there is none, or too short a one."""
        key = self.webhook_secret
        if key is None and self.webhook_secret_file is not None:
            try:
                key = self.webhook_secret_file.read_text().strip()
            except (OSError, UnicodeDecodeError):
                raise InvalidDefinition(
                    f"SENTINEL_WEBHOOK_SECRET_FILE: {self.webhook_secret_file} cannot be read as text"
                ) from None
        if key is None:
            raise InvalidDefinition(
                "SENTINEL_WEBHOOK_URL needs SENTINEL_WEBHOOK_SECRET or SENTINEL_WEBHOOK_SECRET_FILE: receivers have to "
                "know who sends; make one with `openssl rand -hex 32`"
            )
        _check_key("SENTINEL_WEBHOOK_SECRET", key)
        return key

    @property
    def has_fronts_key(self) -> bool:
        """Whether any key of fronts is given."""
        return (self.fronts_key, self.fronts_key_file, self.fronts_key_also, self.fronts_key_also_file) != (None,) * 4

    def fronts_keys(self) -> tuple[str, ...]:
        """What fronts seal with, and then what is taken besides. Raises InvalidDefinition without a key that does."""
        key = _secret_of("fronts_key", self.fronts_key, self.fronts_key_file)
        also = _secret_of("fronts_key_also", self.fronts_key_also, self.fronts_key_also_file)
        if key is None:
            raise InvalidDefinition(
                "fronts need SENTINEL_FRONTS_KEY_FILE (or SENTINEL_FRONTS_KEY), the same for each of them and for "
                "whoever takes their answers: else anybody who writes the topic could say what was decided; make one "
                "with `openssl rand -hex 32`"
            )
        if key == also:
            raise InvalidDefinition("SENTINEL_FRONTS_KEY and SENTINEL_FRONTS_KEY_ALSO are the same; unset the second")
        return (key,) if also is None else (key, also)

    @property
    def given_key_before(self) -> GivenKey:
        """The hash key before the one in use, as it is given."""
        return GivenKey("hash_key_before", self.hash_key_before, self.hash_key_before_file)

    @property
    def url(self) -> str:
        """The address that the server listens on."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls_certificate else 'http'}://{host}:{self.port}"

    @property
    def needs_keys(self) -> bool:
        """Whether every caller needs a key, this machine too."""
        return self.auth == "required" or not is_loopback(self.host)

    @property
    def bearer(self) -> str | None:
        """The key that commands send to a server."""
        return self.key or self.admin_key

    @property
    def keep_archive_us(self) -> int | None:
        """How long segments stay in the archive; None for ever. Raises InvalidDefinition for less than in the log."""
        keep_us, log_us = age_us(self.keep_archive), age_us(self.keep_log)
        if keep_us is not None and (log_us is None or keep_us < log_us):
            raise InvalidDefinition(
                f"SENTINEL_KEEP_ARCHIVE is {self.keep_archive}, and the log is kept for {self.keep_log}: keep the "
                "archive as long as the log, or longer"
            )
        return keep_us

    @property
    def models_folder(self) -> Path:
        """Folder of the bundles, or of their copies where `models` says that they are kept elsewhere."""
        return self.home / "models"

    @property
    def studies(self) -> Path:
        """Folder of what searches for a training have tried."""
        return self.home / "studies"

    @property
    def snapshots(self) -> Path:
        """Folder of the snapshots."""
        return self.home / "snapshots"


def is_loopback(host: str) -> bool:
    """Whether this name or address, without a port, is this machine's alone.

    >>> [is_loopback(one) for one in ("localhost", "127.8.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.1.example", "")]
    [True, True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _check_key(variable: str, key: str | None) -> None:
    if key is not None and (len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key):
        raise InvalidDefinition(
            f"{variable} must be {SHORTEST_KEY} characters of plain ASCII or more, without blanks, and has {len(key)}; "
            "unset it, or make one with `openssl rand -hex 32`"
        )


def _secret_of(name: str, text: str | None, file: Path | None) -> str | None:
    """A secret that is given in the setting `name`, or in a file that `<name>_file` names. Raises InvalidDefinition."""
    variable = f"SENTINEL_{name.upper()}"
    if text is not None and file is not None:
        raise InvalidDefinition(f"{variable} and {variable}_FILE are both given; give one of them")
    if file is not None:
        try:
            text = file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise InvalidDefinition(f"{variable}_FILE: {file} cannot be read as text") from None
    if text is not None and (len(text) < _SHORTEST_SECRET or len(set(text)) < _FEWEST_SIGNS):
        raise InvalidDefinition(
            f"{variable} is too short or too simple: it needs {_SHORTEST_SECRET} random characters, as from "
            "`openssl rand -hex 32`"
        )
    return text


def age_us(text: str) -> int | None:
    """Microseconds of a duration such as `180d`; None for `forever`. Raises InvalidDefinition."""
    return None if text == "forever" else duration_us(text)


def read_settings(given: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from `given` (None means not given), else from the environment, else the defaults."""
    values: dict[str, object] = dict(
        given_in(environment, Settings.__struct_fields__, (*_KEYS, *_SECRET_KEYS, *_GUARDS))
    )
    for name in _SECRET_KEYS:
        if values.get(name) == "":
            raise InvalidDefinition(f"SENTINEL_{name.upper()} is empty; unset it, or give the key")
    for name in _GUARDS:
        if values.get(name) == "":
            raise InvalidDefinition(f"SENTINEL_{name.upper()} is empty, and would protect nothing; set it, or unset it")
    for name in _SWITCHES & values.keys():
        values[name] = _ON_OFF.get(str(values[name]).lower(), values[name])
    values |= {name: value for name, value in given.items() if value is not None}
    for name in _LISTS:
        if isinstance(values.get(name), str):
            values[name] = [one.strip() for one in str(values[name]).split(",") if one.strip()]
    try:
        return msgspec.convert(values, Settings, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise InvalidDefinition(f"a setting is wrong: {error} (from the command line or SENTINEL_...)") from None


def _path(kind: type, value: object) -> object:
    if kind is Path:
        return Path(str(value))
    raise NotImplementedError(kind)
