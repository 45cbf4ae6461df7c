"""The examples of the description: each detector's own transaction, which can be sent as it stands."""

import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import msgspec
import pytest

from sentinel import Detector, Schema, field
from sentinel.config import Settings
from sentinel.detectors import load_detector, preset_names
from sentinel.model.bundle import load_bundle
from sentinel.serve.lineup import Contender
from sentinel.transport.http.examples import example_of, shape_of, transaction_of

NOW_US = 1_790_000_000_123_456
HOST = "127.0.0.1"
KEY = "a-key-of-16-or-more"

SCHEMAS = {
    "bare": Schema(),
    "ranges": Schema(exact={"units": 0, "fee": 3}, numbers=("risk", "age"),
                     ranges={"amount": (0.005, 0.02), "units": (20, 30), "fee": (-2, -1.5), "risk": (0, 1), "age": (18, 120)}),
    "no decimals": Schema(amount="yen", amount_decimals=0),
    "a place": Schema(place=("lat", "lon")),
    "a narrow place": Schema(place=("lat", "lon"), ranges={"lat": (-10, -5), "lon": (100, 110)}),
    "all optional": Schema(keys=("card",), categories=("mcc",), numbers=("risk",),
                           optional=("transaction_id", "event_time", "card", "mcc", "risk")),
    "secret": Schema(keys=("pan",), categories=("email",), secret=("pan",), keep_digits=("pan",), personal={"email": "pan"}),
    "its own times": Schema(time="when", time_format="%m/%d/%Y %H:%M", timezone="Europe/Madrid"),
    "further times": Schema(keys=("card", "email"), times=("opened", "born"), optional=("born",), keep_domain=("email",)),
    "seconds since": Schema(time_from="2017-12-01"),
    "negative": Schema(negative_amounts=True, ranges={"amount": (-5, -1)}),
}  # fmt: skip


def schemas():
    presets = {name: load_detector(name).schema for name in preset_names()}
    return [pytest.param(schema, id=name) for name, schema in (SCHEMAS | presets).items()]


@pytest.mark.parametrize("schema", schemas())
def test_every_schema_takes_the_example_it_is_described_with(schema):
    manifest = SimpleNamespace(plan=Detector(schema=schema, features=(field(schema.amount),)).plan({}))
    made, shape = transaction_of(manifest, NOW_US), shape_of(schema)
    found = schema.decode(msgspec.json.encode(made))
    assert getattr(found, schema.time) == NOW_US - 123_456
    assert made.keys() == shape["properties"].keys()
    assert set(shape["required"]) == made.keys() - set(schema.may_lack)
    schema.decode(msgspec.json.encode({name: made[name] for name in shape["required"]}))


def test_a_category_is_one_that_the_model_knows():
    detector = load_detector("payments")
    plan = detector.plan({name: (f"known-{name}", "other") for name in detector.categorical})
    made = transaction_of(SimpleNamespace(plan=plan), NOW_US)
    assert {name: made[name] for name in detector.categorical} == {
        name: f"known-{name}" for name in detector.categorical
    }
    assert len(detector.categorical) > 1


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (Settings(), "http://127.0.0.1:8000/v1/score"),
        (Settings(host="0.0.0.0", port=81), "http://localhost:81/v1/score"),  # noqa: S104
        (Settings(host="::"), "http://localhost:8000/v1/score"),
        (Settings(host="::1"), "http://[::1]:8000/v1/score"),
    ],
)  # fmt: skip
def test_the_line_for_a_shell_names_where_the_server_is(shop_home, settings, address):
    champion = Contender(load_bundle(shop_home / "models" / "v1"))
    made = example_of(champion, settings, "", NOW_US)
    assert made.curl.startswith(f"curl {address} ")
    assert ("$SENTINEL_KEY" in made.curl) == settings.needs_keys


@pytest.fixture(scope="module")
def server(start_server, shop_home, tmp_path_factory):
    home = tmp_path_factory.mktemp("two") / "home"
    shutil.copytree(shop_home, home)
    shutil.copytree(shop_home, home / "detectors" / "wallet")
    return start_server(home, {"SENTINEL_ADMIN_KEY": KEY, "SENTINEL_AUTH": "required"})


def sent(call, environment):
    """What is answered to the line for a shell of a call."""
    line = re.search(r"```\n(curl .*)\n```", call["description"])[1]
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment)
    return json.loads(done.stdout)


def test_the_event_that_the_page_shows_is_of_this_detector_and_can_be_sent(
    start_server, event_shop_home, tmp_path, ask
):
    shutil.copytree(event_shop_home, tmp_path / "home")
    server = start_server(tmp_path / "home")
    call = ask(server.port, "GET", "/openapi.json").json["paths"]["/v1/events"]["post"]
    example = call["requestBody"]["content"]["application/json"]["example"]
    assert example.keys() == {"event", "event_id", "event_time", "card", "channel"}
    told = sent(call, {"PATH": "/usr/bin:/bin"})
    assert (told["event_id"], told["event"], told["replayed"]) == (example["event_id"], "login", False)


@pytest.mark.parametrize("prefix", ["", "/v1/wallet"])
def test_what_the_page_shows_of_a_detector_can_be_sent(server, ask, prefix):
    bearer = {"authorization": f"Bearer {KEY}"}
    described = ask(server.port, "GET", f"{prefix}/openapi.json", **bearer).json
    path = f"{prefix}/score" if prefix else "/v1/score"
    call = described["paths"][path]["post"]
    line = re.search(r"```\n(curl .*)\n```", call["description"])[1]
    environment = {"SENTINEL_KEY": KEY, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment)
    told = json.loads(done.stdout)
    body = call["requestBody"]["content"]["application/json"]["example"]
    assert (told["transaction_id"], told["decided_by"], told["replayed"]) == (body["transaction_id"], "model", False)
    assert told.keys() == call["responses"]["200"]["content"]["application/json"]["example"].keys()
    assert list(told) == described["components"]["schemas"]["Decision"]["required"]
    outcomes = described["paths"][f"{prefix}/outcomes" if prefix else "/v1/outcomes"]["post"]
    assert sent(outcomes, environment)["transaction_id"] == body["transaction_id"]
    events = described["paths"][f"{prefix}/events" if prefix else "/v1/events"]["post"]
    assert "curl" not in events["description"]
    assert "declares no kind of events" in events["description"]
    assert "example" not in events["requestBody"]["content"]["application/json"]
    assert ask(server.port, "POST", path, body, **bearer).json["replayed"]
    lines = call["requestBody"]["content"]["application/x-ndjson"]["example"].encode()
    assert ask(server.port, "POST", path, lines, content_type="application/x-ndjson", **bearer).json["replayed"]
    vector = described["paths"][f"{prefix}/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert ask(server.port, "POST", f"{prefix}/predict", vector, **bearer).status == 200
    fields = described["components"]["schemas"]["Transaction"]["properties"].keys()
    assert fields == {"transaction_id", "event_time", "amount", "card", "shop", "channel", "risk"}
