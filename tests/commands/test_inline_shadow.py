"""SENTINEL_SHADOW_INLINE: a server says what its shadow says, if it is asked to."""

import shutil

import msgspec

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.record.applied import HomeDeployment

HOST = "127.0.0.1"


def test_it_stands_in_the_answer_of_a_server_that_is_asked_to_and_of_no_other(two_models_home, tmp_path, post):
    home = shutil.copytree(two_models_home, tmp_path / "home")
    HomeDeployment(home).change(lambda before: msgspec.structs.replace(before, shadow="v2"))

    def pay(server, name):
        payment = {"event_time": "2025-02-01T10:00:00Z", "amount": 1, "card": "c", "shop": "s"}
        return post(server.port, "/v1/score", {"transaction_id": name, **payment})

    for switch, wanted in (("yes", True), ("no", False)):
        server = ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_SHADOW_INLINE": switch})
        server.start()
        try:
            found = [pay(server, f"{switch}-{n}") for n in range(30)]
            stopped = post(server.port, "/admin/shadow/stop", {})
            after = pay(server, f"{switch}-after")
        finally:
            server.stop()
        with_score = [one for one in found if "shadow_fraud_probability" in one]
        assert bool(with_score) is wanted, found[0]
        assert all(0 <= one["shadow_fraud_probability"] <= 1 for one in with_score)
        assert "shadow_fraud_probability" not in after
        assert stopped["stopped"] == "v2"
        HomeDeployment(home).change(lambda before: msgspec.structs.replace(before, shadow="v2"))
