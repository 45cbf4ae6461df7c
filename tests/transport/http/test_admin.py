"""The admin calls on a running server: what they answer, what they refuse, and who may make them."""

import contextlib
import json
import resource
import time
import uuid

import pytest

from sentinel.errors import StorageProblem
from sentinel.model.bundle import read_manifest
from sentinel.record.applied import HomeDeployment

VECTOR = {"features": [20.5, 0.1, 1, 1, 2, 20.5, None, None, 1, 3600, 4, 0.02]}


@pytest.fixture(scope="module")
def server(start_server, two_models_home):
    return start_server(two_models_home, {"SENTINEL_CACHE_TTL_S": "0"})


@pytest.fixture
def calm(server, ask):
    """The server with v1 as champion, no champion before it, and nothing else going on; left as it was found."""
    yield server

    def post(path, body=b""):
        return ask(server.port, "POST", path, body)

    post("/admin/ab/abort")
    while post("/admin/rollback").status == 200:
        pass
    for path, body in (("thresholds", {}), ("fallback", {"only": False}), ("shadow/stop", b"")):
        ok(post(f"/admin/{path}", body))


@pytest.fixture
def record(calm):
    return HomeDeployment(calm.home)


@pytest.fixture
def get(calm, ask):
    return lambda path: ask(calm.port, "GET", path)


@pytest.fixture
def post(calm, ask):
    def posting(path, body=b"", **headers):
        return ask(calm.port, "POST", path, body, **headers)

    return posting


def ok(answer):
    assert answer.status == 200, answer.body
    return answer.json


def refused(answer, status, text):
    assert (answer.status, answer.json["status"]) == (status, status)
    assert text in answer.json["error"]
    assert "Traceback" not in answer.json["error"]


def payment(card=None, **changes):
    fields = {"transaction_id": uuid.uuid4().hex, "event_time": "2025-02-01T10:00:00Z", "amount": 12.5,
              "card": card or uuid.uuid4().hex, "shop": "shop-1", "channel": "web", "risk": 0.1}  # fmt: skip
    return fields | changes


def decide(post, n=1, **changes):
    found = ok(post("/v1/score", [payment(**changes) for _ in range(n)]))
    return found[0] if n == 1 else found


# models


def test_version_names_what_decides(server, get):
    found = ok(get("/admin/version"))
    assert list(found)[:2] == ["version_a", "path_a"]
    assert (found["version_a"], found["path_a"]) == ("v1", str(server.home / "models" / "v1"))
    assert found.keys().isdisjoint({"version_b", "path_b", "split_percent"})
    assert (found["versions"], found["problem"], found["shadow"]) == (["v1", "v2"], None, None)


def test_reload_and_rollback(get, post):
    assert ok(post("/admin/reload", {"version": "v2"})) == {"status": "ok", "old_version": "v1", "new_version": "v2"}
    assert ok(get("/admin/version"))["version_a"] == "v2"
    assert ok(post("/predict", VECTOR))["model_version"] == decide(post)["model_version"] == "v2"
    assert ok(post("/admin/rollback")) == {"status": "ok", "old_version": "v2", "new_version": "v1"}
    assert ok(post("/predict", VECTOR))["model_version"] == decide(post)["model_version"] == "v1"
    refused(post("/admin/rollback"), 409, "no other champion")


def test_reload_of_what_is_in_charge_changes_nothing(get, post):
    before = ok(get("/admin/version"))["revision"]
    assert ok(post("/admin/reload", {"version": "v1"})) == {"status": "ok", "old_version": "v1", "new_version": "v1"}
    assert ok(get("/admin/version"))["revision"] == before


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b'{"version": null}'])
def test_reload_without_a_version_takes_the_newest(get, post, body):
    assert ok(post("/admin/reload", body)) == {"status": "ok", "old_version": "v1", "new_version": "v2"}
    assert ok(post("/predict", VECTOR))["model_version"] == decide(post)["model_version"] == "v2"
    assert ok(post("/admin/reload", body))["old_version"] == "v2"  # again is no change
    assert ok(get("/admin/version"))["version_a"] == "v2"


def test_reload_without_a_version_has_the_same_guards(server, record, post):
    ok(post("/admin/ab/setup", {"candidate_version": "v2"}))
    before = record.read()
    refused(post("/admin/reload"), 409, "promote or abort it first")
    assert record.read() == before
    ok(post("/admin/ab/abort"))
    file = server.home / "models" / "v2" / "model.onnx"
    kept = file.read_bytes()
    file.write_bytes(kept[:-1] + b"x")
    try:
        refused(post("/admin/reload"), 400, "altered")
        assert record.read().champion == "v1"
    finally:
        file.write_bytes(kept)


def test_reload_without_any_model_says_what_to_do(server, record, post):
    gone = server.home / "models"
    gone.rename(server.home / "elsewhere")
    try:
        refused(post("/admin/reload"), 400, "run `sentinel train`")
    finally:
        (server.home / "elsewhere").rename(gone)
    assert record.read().champion == "v1"


@contextlib.contextmanager
def full_disk(server):
    """The server can write to no file."""
    _, most = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1, most))
    yield
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, most))


def test_what_the_disk_does_not_take_is_503_and_changes_nothing(server, record, get, post):
    before, shown = record.read(), ok(get("/admin/version"))
    with full_disk(server):
        answer = post("/admin/fallback", {"only": True})
        refused(answer, 503, "cannot be written")
        assert answer.headers["retry-after"] == "1"
        refused(post("/v1/score", payment()), 503, "cannot be written")
        refused(post("/admin/thresholds", {"review": 0.5}), 503, "cannot be written")
        assert ok(post("/predict", VECTOR))["model_version"] == "v1"
    until = time.monotonic() + 120
    while get("/health/ready").status != 200:
        assert time.monotonic() < until, get("/health").body
        time.sleep(0.05)
    assert (record.read(), ok(get("/admin/version"))) == (before, shown)
    assert decide(post)["model_version"] == "v1"
    assert ok(post("/admin/reload", {"version": "v2"}))["new_version"] == "v2"


STRANGE = ["v9", "../v1", "../../models/v1", "v1/../v2", "v1/", "/etc", ".", "v1\x00", "V1", "v\u0661", "a" * 64]


@pytest.mark.parametrize("version", STRANGE)
@pytest.mark.parametrize(
    ("path", "field"),
    [("/admin/reload", "version"), ("/admin/ab/setup", "candidate_version"), ("/admin/shadow/start", "version")],
)
def test_a_version_that_is_not_there_is_400_and_changes_nothing(record, post, path, field, version):
    before = record.read()
    refused(post(path, {field: version}), 400, "there is no model")
    assert record.read() == before


TAKES = {
    "/admin/reload": b'{"version":"v2"}',
    "/admin/ab/setup": b'{"candidate_version":"v2"}',
    "/admin/ab/split": b'{"percent":5}',
    "/admin/fallback": b'{"only":true}',
    "/admin/shadow/start": b'{"version":"v2"}',
    "/admin/log/prune": b'{"keep":"9000d","archive":null,"dry_run":true}',
}
OPTIONAL = ("/admin/reload", "/admin/log/prune")


@pytest.mark.parametrize("path", [path for path in TAKES if path not in OPTIONAL])
def test_a_body_that_is_empty_is_400_and_changes_nothing(record, post, path):
    before = record.read()
    refused(post(path), 400, "missing required field")
    assert record.read() == before


@pytest.mark.parametrize("path", TAKES)
@pytest.mark.parametrize(
    ("body", "text"),
    [(b"{", "No valid JSON"), (b"[]", "Expected `object`"), (b"\xff", ""),
     (b'{"nobody":1}', "nobody"), (b'{"version":1,"candidate_version":1,"percent":"x","only":"x","keep":7}', "")],
)  # fmt: skip
def test_a_body_that_is_wrong_is_400_and_changes_nothing(record, post, path, body, text):
    before = record.read()
    refused(post(path, body), 400, text)
    assert record.read() == before


@pytest.mark.parametrize("path", [*TAKES, "/admin/rollback", "/admin/ab/promote", "/admin/ab/abort"])
def test_changes_are_posts(get, path):
    assert get(path).status == 405


@pytest.mark.parametrize("path", ["/admin/version", "/admin/ab/status", "/admin/drift", "/admin/shadow/status"])
def test_what_only_shows_is_no_post(post, path):
    assert post(path).status == 405


def test_a_rollback_to_a_model_that_is_gone_changes_nothing(server, record, post):
    ok(post("/admin/reload", {"version": "v2"}))
    gone = server.home / "models" / "v1"
    gone.rename(server.home / "v1")
    try:
        refused(post("/admin/rollback"), 400, "there is no model 'v1'")
        assert record.read().champion == "v2"
        assert decide(post)["model_version"] == "v2"
    finally:
        (server.home / "v1").rename(gone)


def test_a_model_that_was_altered_is_refused_before_anything_changes(server, record, post):
    file = server.home / "models" / "v2" / "model.onnx"
    kept = file.read_bytes()
    file.write_bytes(kept[:-1] + b"x")
    try:
        for path, field in (("/admin/reload", "version"), ("/admin/ab/setup", "candidate_version")):
            refused(post(path, {field: "v2"}), 400, "altered")
        assert record.read().champion == "v1"
        assert decide(post)["model_version"] == "v1"
    finally:
        file.write_bytes(kept)


# experiments


def test_an_experiment_from_setup_to_promotion(server, get, post):
    found = ok(post("/admin/ab/setup", {"candidate_version": "v2"}))
    assert (found["status"], found["candidate_version"]) == ("ok", "v2")
    shown = ok(get("/admin/version"))
    assert list(shown)[:5] == ["version_a", "path_a", "version_b", "path_b", "split_percent"]
    assert (shown["version_b"], shown["path_b"]) == ("v2", str(server.home / "models" / "v2"))
    assert shown["split_percent"] == 0
    assert {one["variant"] for one in decide(post, 30)} == {"a"}  # no traffic before it is asked for
    assert ok(post("/admin/ab/split", {"percent": 100})) == {"status": "ok", "split_percent": 100}
    assert {(one["variant"], one["model_version"]) for one in decide(post, 30)} == {("b", "v2")}
    assert ok(post("/predict", VECTOR))["model_version"] == "v2"
    assert ok(post("/admin/ab/promote")) == {"status": "ok", "promoted_to_a": "v2", "old_a_version": "v1"}
    shown = ok(get("/admin/version"))
    assert shown["version_a"] == "v2"
    assert "version_b" not in shown
    assert decide(post)["model_version"] == "v2"
    assert ok(post("/admin/rollback"))["new_version"] == "v1"


def test_status_counts_this_experiment_only(get, post):
    for _ in range(2):
        ok(post("/admin/ab/setup", {"candidate_version": "v2"}))
        ok(post("/admin/ab/split", {"percent": 50}))
        answers = decide(post, 200)
        vectors = [ok(post("/predict", {**VECTOR, "key": f"card-{i}"})) for i in range(40)]
        found = ok(get("/admin/ab/status"))
        of_b = [one["variant"] == "b" for one in answers] + [one["model_version"] == "v2" for one in vectors]
        assert 0 < sum(of_b) < 240
        assert (found["version_a"], found["version_b"]) == ("v1", "v2")
        assert (found["ab_active"], found["split_percent"]) == (True, 50)
        assert (found["predictions_a"], found["predictions_b"]) == (240 - sum(of_b), sum(of_b))
        blocks = [one["decision"] == "block" for one in [*answers, *vectors]]
        assert found["blocks_b"] == sum(b and x for b, x in zip(of_b, blocks, strict=True))
        assert found["blocks_a"] == sum(blocks) - found["blocks_b"]
        assert found["block_rate_a"] == pytest.approx(found["blocks_a"] / found["predictions_a"])
        assert found["block_rate_b"] == pytest.approx(found["blocks_b"] / found["predictions_b"])
        figures = ok(get("/metrics"))
        assert (figures["ab_active"], figures["split_percent"]) == (True, 50)
        refused(post("/admin/ab/abort", {"reason": "x" * 257}), 400, "length <= 256")
        assert ok(post("/admin/ab/abort", {"reason": "enough"})) == {"status": "ok", "aborted_version": "v2"}
        found = ok(get("/admin/ab/status"))
        assert (found["ab_active"], found["split_percent"], found["ended"]["reason"]) == (False, 0, "enough")
        assert "version_b" not in found


def test_a_card_keeps_its_variant_and_the_cache_is_left_alone(get, post):
    ok(post("/admin/ab/setup", {"candidate_version": "v2"}))
    ok(post("/admin/ab/split", {"percent": 50}))
    before = ok(get("/metrics"))
    variants = set()
    for card in [f"sticky-{i}" for i in range(20)]:
        of_card = {one["variant"] for one in decide(post, 5, card=card)}
        assert len(of_card) == 1
        assert ok(post("/predict", {**VECTOR, "key": card}))["variant"].lower() in of_card
        variants |= of_card
    assert variants == {"a", "b"}
    vectors = [ok(post("/predict", VECTOR)) for _ in range(5)]
    assert len({(one["variant"], one["cache_hit"]) for one in vectors}) == 1
    assert ok(get("/metrics"))["cache_hits"] == before["cache_hits"]


def test_a_swap_or_second_experiment_during_one_is_409(record, post):
    ok(post("/admin/ab/setup", {"candidate_version": "v2"}))
    before = record.read()
    refused(post("/admin/reload", {"version": "v2"}), 409, "promote or abort it first")
    refused(post("/admin/ab/setup", {"candidate_version": "v2"}), 409, "is running already")
    refused(post("/admin/rollback"), 409, "")
    assert record.read() == before
    ok(post("/admin/ab/abort"))
    refused(post("/admin/ab/setup", {"candidate_version": "v1"}), 409, "champion itself")


@pytest.mark.parametrize("percent", [-1, 100.001, 1e9, "50", None, True, [5]])
def test_a_split_out_of_range_is_400(record, post, percent):
    ok(post("/admin/ab/setup", {"candidate_version": "v2"}))
    refused(post("/admin/ab/split", {"percent": percent}), 400, "$.percent")
    assert record.read().experiment.split_percent == 0
    for good in (0, 0.5, 100):
        assert ok(post("/admin/ab/split", {"percent": good}))["split_percent"] == good


@pytest.mark.parametrize(
    ("path", "body"),
    [("/admin/ab/split", {"percent": 5}), ("/admin/ab/promote", b""), ("/admin/ab/abort", b""),
     ("/admin/thresholds", {"variant": "b", "review": 0.5})],
)  # fmt: skip
def test_without_an_experiment_there_is_nothing_to_change(record, post, path, body):
    before = record.read()
    refused(post(path, body), 400, "no experiment is running")
    assert record.read() == before


# thresholds and fallback


def test_thresholds_count_at_once_and_by_variant(server, get, post):
    own = {name: read_manifest(server.home / "models" / name).thresholds for name in ("v1", "v2")}
    assert ok(get("/admin/thresholds")) == {"a": own["v1"]}
    assert ok(post("/admin/thresholds", {"review": 0, "block": 1})) == {"a": {"review": 0, "block": 1}}
    found = decide(post)
    assert (found["decision"], found["threshold"], found["thresholds"]) == ("review", 0, {"review": 0, "block": 1})
    assert ok(post("/predict", VECTOR))["decision"] == "review"
    ok(post("/admin/ab/setup", {"candidate_version": "v2"}))
    ok(post("/admin/ab/split", {"percent": 50}))
    assert ok(get("/admin/thresholds")) == {"a": {"review": 0, "block": 1}, "b": own["v2"]}
    assert ok(post("/admin/thresholds", {"variant": "b", "review": 0, "block": 0}))["b"] == {"review": 0, "block": 0}
    answers = decide(post, 60)
    assert {(one["variant"], one["decision"]) for one in answers} == {("a", "review"), ("b", "block")}
    ok(post("/admin/thresholds", {"variant": "b"}))
    assert ok(post("/admin/thresholds", {})) == {"a": own["v1"], "b": own["v2"]}
    assert decide(post)["thresholds"] in own.values()
    ok(post("/admin/ab/abort"))
    ok(post("/admin/thresholds", {"review": 0.4}))
    assert decide(post)["thresholds"] == {"review": 0.4, "block": None}
    ok(post("/admin/reload", {"version": "v2"}))  # they go when the champion goes
    assert ok(get("/admin/thresholds")) == {"a": own["v2"]}


@pytest.mark.parametrize(
    ("body", "text"),
    [({"review": 2}, "$.review"), ({"review": -0.1}, "$.review"), ({"review": 0.5, "block": 0.4}, "at least review"),
     ({"block": 0.5}, "give review as well"), ({"variant": "c", "review": 0.5}, "variant is 'c'")],
)  # fmt: skip
def test_thresholds_that_cannot_be(record, post, body, text):
    before = record.read()
    refused(post("/admin/thresholds", body), 400, text)
    assert record.read() == before


def test_the_rules_decide_alone_while_asked_to(get, post):
    assert ok(post("/admin/fallback", {"only": True})) == {"status": "ok", "fallback_only": True}
    for found in (decide(post), ok(post("/predict", VECTOR))):
        assert (found["degraded"], found["fraud_probability"]) == ("fallback only", 0.05)
    assert ok(get("/health"))["status"] == "ready"
    assert ok(post("/admin/fallback", {"only": False})) == {"status": "ok", "fallback_only": False}
    assert decide(post)["degraded"] is ok(post("/predict", VECTOR))["degraded"] is None


# shadow and drift


def test_a_shadow_scores_beside_and_is_reported(get, post):
    assert ok(get("/admin/shadow/status"))["version"] is None
    assert ok(post("/admin/shadow/start", {"version": "v2"})) == {"status": "ok", "shadow": "v2"}
    assert ok(get("/admin/version"))["shadow"] == "v2"
    until = time.monotonic() + 120
    while not ok(get("/admin/shadow/status"))["running"]:
        assert time.monotonic() < until, get("/admin/shadow/status").body
        time.sleep(0.05)
    answers = decide(post, 40)
    assert {one["model_version"] for one in answers} == {"v1"}
    while ok(get("/admin/shadow/status"))["scored"] < 40:
        assert time.monotonic() < until, get("/admin/shadow/status").body
        time.sleep(0.05)
    report = ok(get("/admin/shadow/report"))
    assert (report["version"], report["compared"], report["failed"]) == ("v2", 40, 0)
    assert 0 <= report["agreement"] <= 1
    (scored,) = ok(get(f"/v1/decisions/{answers[0]['transaction_id']}"))["shadow"]
    assert scored["model_version"] == "v2"
    status = ok(get("/admin/shadow/status"))
    assert (status["version"], status["dropped"], status["failed"], status["restarts"]) == ("v2", 0, 0, 0)
    assert ok(post("/admin/shadow/stop")) == {"status": "ok", "stopped": "v2"}
    assert ok(get("/admin/shadow/status"))["version"] is None
    assert ok(get("/admin/shadow/report"))["compared"] == 40  # what it scored stays
    assert ok(post("/admin/shadow/stop"))["stopped"] is None


def test_so_many_scores_of_shadows_are_kept_as_the_operator_says(start_server, two_models_home, ask):
    server = start_server(two_models_home, {"SENTINEL_SHADOW_SCORES": "25"})

    def call(method, path, body=b""):
        return ok(ask(server.port, method, path, body))

    call("POST", "/admin/shadow/start", {"version": "v2"})
    until = time.monotonic() + 120
    while not call("GET", "/admin/shadow/status")["running"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    call("POST", "/v1/score", [payment() for _ in range(200)])
    while call("GET", "/admin/shadow/status")["scored"] < 200 or call("GET", "/admin/shadow/report")["compared"] > 25:
        assert time.monotonic() < until, call("GET", "/admin/shadow/status")
        time.sleep(0.05)
    assert call("GET", "/admin/shadow/report")["compared"] == 25
    assert call("GET", "/admin/shadow/status")["restarts"] == 0


def test_drift_compares_with_the_training_history_and_begins_anew(server, get, post):
    ok(post("/admin/drift/reset"))
    names = read_manifest(server.home / "models" / "v1").plan.names
    found = ok(get("/admin/drift"))
    assert (found["baseline_locked"], found["drift_detected"], found["current_count"]) == (True, False, 0)
    assert found["baseline_count"] == 900
    assert [one["name"] for one in found["per_feature"]] == list(names)
    decide(post, 900, amount=5000)
    found = ok(get("/admin/drift"))
    assert (found["drift_detected"], found["current_count"]) == (True, 900)
    assert next(one for one in found["per_feature"] if one["name"] == "amount")["drifted"]
    assert ok(get("/metrics"))["drift_detected"]
    assert ok(post("/admin/drift/reset")) == {"status": "ok"}
    found = ok(get("/admin/drift"))
    assert (found["current_count"], found["drift_detected"]) == (0, False)
    assert not ok(get("/metrics"))["drift_detected"]


# other processes


def test_while_the_server_runs_no_other_process_changes_anything(server, record, get):
    before = record.read()
    with pytest.raises(StorageProblem, match=rf"in use by another Sentinel \(pid {server.pid}\)"):
        record.promote("v2")
    assert record.read() == before
    assert ok(get("/admin/version"))["revision"] == before.revision


def test_another_process_sees_a_change_at_once(record, post):
    ok(post("/admin/reload", {"version": "v2"}))
    assert record.champion() == "v2"


def test_what_was_changed_survives_a_restart(start_server, two_models_home, ask):
    server = start_server(two_models_home)

    def call(method, path, body=b""):
        return ok(ask(server.port, method, path, body))

    call("POST", "/admin/reload", {"version": "v2"})
    call("POST", "/admin/thresholds", {"review": 0.25, "block": 0.75})
    call("POST", "/admin/ab/setup", {"candidate_version": "v1"})
    call("POST", "/admin/ab/split", {"percent": 30})
    call("POST", "/admin/thresholds", {"variant": "b", "review": 0.5})
    cards = [f"card-{i}" for i in range(60)]
    before = call("POST", "/v1/score", [payment(card) for card in cards])
    shown, status = call("GET", "/admin/version"), call("GET", "/admin/ab/status")
    server.kill()
    server.start()
    assert call("GET", "/admin/version") == shown
    assert call("GET", "/admin/thresholds") == {
        "a": {"review": 0.25, "block": 0.75}, "b": {"review": 0.5, "block": None},
    }  # fmt: skip
    counted = ("predictions_a", "predictions_b", "blocks_a", "blocks_b")
    again = call("GET", "/admin/ab/status")
    assert [again[name] for name in counted] == [status[name] for name in counted]
    after = call("POST", "/v1/score", [payment(card) for card in cards])
    assert [one["variant"] for one in after] == [one["variant"] for one in before]
    call("POST", "/admin/ab/promote")
    server.stop()
    server.start()
    assert call("GET", "/admin/version")["version_a"] == "v1"
    assert call("GET", "/admin/thresholds") == {"a": {"review": 0.5, "block": None}}


# the log


def test_a_young_log_is_not_pruned(get, post):
    decide(post, 3)
    for body in ({}, {"dry_run": True}, {"keep": "26w"}):
        found = ok(post("/admin/log/prune", body))
        assert (found["removed"], found["more"], found["held_by"]) == (0, False, [])
        assert found["dry_run"] == ("dry_run" in body)
    assert ok(get("/health"))["log"]["first"] == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"keep": "0d"}, "keep: '0d' is no duration"),
        ({"keep": "forever"}, 'say how much of it to keep, as in {"keep": "180d"}'),
        ({"archive": "/nowhere/yet"}, "its own archive only"),
        ({"archive": ""}, "Expected `str` of length >= 1"),
    ],
)
def test_a_pruning_that_cannot_be_meant_is_400(post, body, text):
    refused(post("/admin/log/prune", body), 400, text)


# the description


def test_the_page_of_the_api_shows_what_admin_calls_take(get):
    paths = ok(get("/openapi.json"))["paths"]
    for path, body in TAKES.items():
        schema = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert set(json.loads(body)) <= schema["properties"].keys()
        assert paths[path]["post"]["requestBody"]["required"] == (path not in OPTIONAL)
