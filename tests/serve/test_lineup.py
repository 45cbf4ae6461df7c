"""The lineup on real bundles: who is loaded, who is taken over, and what cannot stand side by side."""

import shutil

import msgspec
import numpy as np
import pytest

from sentinel.errors import BundleProblem, UnknownVersion
from sentinel.model.bundle import Bundle, accept_bundle, load_warm
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment
from sentinel.policy.experiment import variant_of
from sentinel.policy.thresholds import Thresholds
from sentinel.record.applied import HomeDeployment
from sentinel.serve.lineup import Contender, Lineup, check_comparable, load_lineup

SERVED = Deployment(revision=3).with_champion("v1")
TRYING = SERVED.with_experiment("v2")
STRICT, LAX = Thresholds(0.1, 0.2), Thresholds(0.9, None)


@pytest.fixture(scope="module")
def registry(two_models_home):
    return Registry(two_models_home / "models")


@pytest.fixture(scope="module")
def both(registry):
    return load_lineup(TRYING, registry)


def with_schema(bundle, schema):
    """The same bundle for other transactions."""
    plan = msgspec.structs.replace(bundle.manifest.plan, schema=schema)
    manifest = msgspec.structs.replace(bundle.manifest, plan=plan)
    return Bundle(manifest, bundle.scorer, bundle.reference, {})


def test_a_champion_alone_decides_for_everyone_by_the_thresholds_of_its_bundle(registry):
    lineup = load_lineup(SERVED, registry)
    assert (lineup.revision, lineup.champion.version, lineup.challenger, lineup.experiment) == (3, "v1", None, None)
    assert msgspec.to_builtins(lineup.champion.thresholds) == lineup.champion.bundle.manifest.thresholds
    assert {lineup.variant(f"card-{i}") for i in range(200)} == {"a"}
    assert lineup.contenders == (lineup.champion,)


def test_bundles_of_one_history_share_a_state_and_are_two_models(both):
    champion, challenger = both.contenders
    assert champion.bundle.state_id == challenger.bundle.state_id
    assert champion.bundle.manifest.files["model.onnx"] != challenger.bundle.manifest.files["model.onnx"]


def test_each_variant_has_its_contender(both):
    assert (both.contender("a").version, both.contender("b").version) == ("v1", "v2")
    assert both._replace(challenger=None).contender("b").version == "v1"


def test_cards_are_split_as_the_experiment_says(registry, both):
    lineup = load_lineup(TRYING.with_split(30.0), registry, both)
    cards = [f"card-{i}" for i in range(500)]
    assert [lineup.variant(card) for card in cards] == [variant_of(card, TRYING.experiment.id, 30.0) for card in cards]
    assert 100 < sum(lineup.variant(card) == "b" for card in cards) < 200


def test_thresholds_of_the_record_go_before_those_of_the_bundles(registry, both):
    tuned = TRYING.with_thresholds(STRICT, "a").with_thresholds(LAX, "b")
    lineup = load_lineup(tuned, registry, both)
    assert (lineup.champion.thresholds, lineup.challenger.thresholds) == (STRICT, LAX)


def test_whatever_is_loaded_already_is_taken_over_in_any_role(registry, both):
    champion, challenger = (one.bundle for one in both.contenders)
    promoted = load_lineup(TRYING.promoted(), registry, both)
    assert promoted.champion.bundle is challenger
    swapped = load_lineup(TRYING.promoted().with_experiment("v1"), registry, both)
    assert (swapped.champion.bundle, swapped.challenger.bundle) == (challenger, champion)


def test_what_is_not_loaded_yet_is_loaded(registry, both):
    alone = load_lineup(SERVED, registry, both)
    again = load_lineup(TRYING, registry, alone)
    assert again.champion.bundle is both.champion.bundle
    assert again.challenger.bundle is not both.challenger.bundle
    assert again.challenger.bundle.state_id == both.challenger.bundle.state_id


def test_the_fallback_alone_is_passed_on(registry, both):
    assert load_lineup(msgspec.structs.replace(SERVED, fallback_only=True), registry, both).fallback_only
    assert not both.fallback_only


def test_without_a_champion_there_is_no_lineup(registry):
    with pytest.raises(BundleProblem, match="no champion; run `sentinel train`"):
        load_lineup(Deployment(), registry)


@pytest.mark.parametrize("deployment", [SERVED.with_champion("v9"), SERVED.with_experiment("v9")])
def test_a_version_that_is_not_there_is_named(registry, deployment):
    with pytest.raises(BundleProblem, match=r"no model 'v9' in .*; there is v1, v2"):
        load_lineup(deployment, registry)


def test_an_altered_challenger_is_refused(tmp_path, two_models_home, both):
    shutil.copytree(two_models_home / "models", tmp_path / "models")
    model = tmp_path / "models" / "v2" / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    alone = both._replace(challenger=None)
    with pytest.raises(BundleProblem, match="altered after training"):
        load_lineup(TRYING, Registry(tmp_path / "models"), alone)
    assert load_lineup(SERVED, Registry(tmp_path / "models"), alone).champion.bundle is both.champion.bundle


def test_another_model_under_the_name_of_the_chosen_one_is_refused_until_it_is_chosen(tmp_path, two_models_home):
    home = shutil.copytree(two_models_home, tmp_path / "home")
    deployment, registry = HomeDeployment(home), Registry(home / "models")
    deployment.promote("v1")
    lineup = load_lineup(deployment.read(), registry)
    text = (home / "models" / "v1" / "manifest.json").read_text()
    (home / "models" / "v1" / "manifest.json").write_text(text + "\n")
    accept_bundle(registry, "v1")
    with pytest.raises(BundleProblem, match="not the one that was chosen as v1"):
        load_lineup(deployment.read(), registry)
    assert load_lineup(deployment.read(), registry, lineup).champion.bundle is lineup.champion.bundle
    deployment.promote("v1")
    chosen = load_lineup(deployment.read(), registry, lineup).champion.bundle
    assert chosen.manifest_sha256 != lineup.champion.bundle.manifest_sha256
    assert load_lineup(msgspec.structs.replace(deployment.read(), manifests={}), registry).champion.version == "v1"


def test_two_models_of_different_transactions_are_not_compared(registry, both):
    schema = both.champion.bundle.manifest.plan.schema
    stranger = with_schema(both.challenger.bundle, msgspec.structs.replace(schema, numbers=("risk", "distance")))
    with pytest.raises(UnknownVersion, match=r"v2 reads other transactions than the champion v1"):
        check_comparable(both.champion.bundle, stranger)
    loaded = Lineup(1, both.champion, Contender(stranger))
    with pytest.raises(UnknownVersion, match="schemas differ"):
        load_lineup(TRYING, registry, loaded)
    assert load_lineup(TRYING.promoted(), registry, loaded).champion.bundle is stranger


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({"keys": ("shop", "card")}, True), ({"keys": ("channel", "card"), "categories": ("shop",)}, True),
        ({"keys": ("card", "shop", "channel"), "categories": ()}, True), ({"label": "chargeback", "columns": {"card": "pan"}}, True),
        ({"keys": ("card",)}, False), ({"categories": ("channel", "mcc")}, False), ({"amount_decimals": 0}, False),
        ({"numbers": ()  , "optional": ("channel",)}, False), ({"exact": {"points": 0}}, False), ({"optional": ("channel",)}, False),
        ({"rounded": ("amount",)}, False), ({"ranges": {"risk": (-9, 9)}}, False), ({"secret": ("card",)}, False),
        ({"time_from": "2017-12-01"}, False),
    ],
)  # fmt: skip
def test_keys_and_categories_may_change_places_and_no_more(both, changes, fits):
    schema = both.champion.bundle.manifest.plan.schema
    other = with_schema(both.challenger.bundle, msgspec.structs.replace(schema, **changes))
    if fits:
        check_comparable(both.champion.bundle, other)
    else:
        with pytest.raises(UnknownVersion, match="more than keys and categories"):
            check_comparable(both.champion.bundle, other)


def test_models_of_the_same_transactions_with_other_features_are_compared(four_models_home):
    registry = Registry(four_models_home / "models")
    lineup = load_lineup(SERVED.with_experiment("v4"), registry)
    assert lineup.champion.bundle.state_id != lineup.challenger.bundle.state_id
    assert set(lineup.challenger.names) < set(lineup.champion.names)


def test_a_bundle_is_warm_and_says_what_it_said(registry, both):
    again = load_warm(registry, "v1")
    rows = [[1.0] * again.scorer.n_features]
    given = np.array(rows, np.float32)
    assert again.scorer.score(given).tobytes() == both.champion.scorer.score(given).tobytes()
