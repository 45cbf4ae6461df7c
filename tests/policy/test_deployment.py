"""The deployment: what may follow what."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import BundleProblem, DeploymentRefused, NoExperiment
from sentinel.policy.deployment import REMEMBERED, Deployment
from sentinel.policy.thresholds import Thresholds

STRICT = Thresholds(review=0.2, block=0.4)
LAX = Thresholds(review=0.8, block=None)
SERVED = Deployment().with_champion("v1")
TRYING = SERVED.with_experiment("v2")


def test_what_is_named_keeps_its_manifest_and_what_is_not_loses_it():
    second = SERVED.vouching("v1", "one").with_champion("v2").vouching("v2", "two")
    assert second.manifests == {"v1": "one", "v2": "two"}
    back = second.rolled_back()
    assert back.vouching("v1", "one") == back
    assert back.with_champion("v3").vouching("v3", "three").manifests == {"v1": "one", "v3": "three"}
    back.check_is_meant("v1", "one")
    back.check_is_meant("v9", "whatever: nobody knows")
    with pytest.raises(BundleProblem, match="not the one that was chosen as v1"):
        back.check_is_meant("v1", "another")
    assert TRYING.vouching("v2", "two").promoted().manifests == {"v2": "two"}
    assert msgspec.structs.replace(SERVED, shadow="v3").vouching("v3", "x").manifests == {"v3": "x"}


def test_a_new_champion_remembers_the_one_before():
    third = SERVED.with_champion("v2").with_champion("v3")
    assert (third.champion, third.previous) == ("v3", ("v1", "v2"))


def test_the_first_champion_has_none_before_it():
    assert (SERVED.champion, SERVED.previous) == ("v1", ())


def test_the_same_champion_again_is_no_change():
    tuned = SERVED.with_thresholds(STRICT, "a")
    assert tuned.with_champion("v1") == tuned


def test_thresholds_go_with_the_champion_they_were_set_for():
    assert SERVED.with_thresholds(STRICT, "a").with_champion("v2").thresholds is None


def test_only_so_many_former_champions_are_remembered():
    deployment = Deployment()
    for n in range(REMEMBERED + 10):
        deployment = deployment.with_champion(f"v{n}")
    assert deployment.previous == tuple(f"v{n}" for n in range(9, REMEMBERED + 9))


def test_rolling_back_again_and_again_goes_back_to_the_first():
    deployment = SERVED.with_champion("v2").with_champion("v3").with_champion("v1")
    seen = []
    while deployment.previous:
        deployment = deployment.rolled_back()
        seen.append(deployment.champion)
    assert seen == ["v3", "v2", "v1"]
    with pytest.raises(DeploymentRefused, match="no other champion"):
        deployment.rolled_back()


def test_rolling_back_takes_the_thresholds_of_the_bundle():
    assert SERVED.with_champion("v2").with_thresholds(LAX, "a").rolled_back().thresholds is None


def test_an_experiment_begins_without_traffic_and_under_a_name_of_its_own():
    other = SERVED.with_experiment("v2")
    assert (TRYING.experiment.version, TRYING.experiment.split_percent) == ("v2", 0.0)
    assert TRYING.experiment.thresholds is None
    assert TRYING.experiment.id != other.experiment.id


def test_the_split_changes_and_the_experiment_stays_the_same():
    wider = TRYING.with_split(25.0)
    assert wider.experiment == msgspec.structs.replace(TRYING.experiment, split_percent=25.0)
    assert (wider.champion, wider.previous) == ("v1", ())


def test_a_promoted_challenger_brings_its_thresholds():
    after = TRYING.with_thresholds(LAX, "a").with_thresholds(STRICT, "b").with_split(50.0).promoted()
    assert (after.champion, after.previous, after.thresholds, after.experiment) == ("v2", ("v1",), STRICT, None)
    assert (after.ended.id, after.ended.version, after.ended.how) == (TRYING.experiment.id, "v2", "promoted")


def test_a_promoted_challenger_without_thresholds_has_those_of_its_bundle():
    assert TRYING.with_thresholds(LAX, "a").promoted().thresholds is None


def test_an_aborted_experiment_leaves_the_champion_as_it_was():
    tuned = TRYING.with_thresholds(LAX, "a").with_split(50.0)
    after = tuned.aborted("too many blocks", TRYING.experiment.id)
    assert (after.champion, after.previous, after.thresholds, after.experiment) == ("v1", (), LAX, None)
    assert (after.ended.how, after.ended.reason) == ("aborted", "too many blocks")


@pytest.mark.parametrize("before", [SERVED, TRYING, TRYING.promoted()], ids=["none", "another", "ended"])
def test_aborting_an_experiment_that_runs_no_more_changes_nothing(before):
    assert before.aborted("a guardrail of long ago", "0badcafe") == before


def test_thresholds_of_one_variant_leave_the_other_alone():
    both = TRYING.with_thresholds(STRICT, "a").with_thresholds(LAX, "b")
    assert (both.thresholds, both.experiment.thresholds) == (STRICT, LAX)
    assert both.with_thresholds(None, "b").thresholds == STRICT
    assert both.with_thresholds(None, "a").experiment.thresholds == LAX


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: TRYING.with_champion("v3"), "v2 is running"),
        (lambda: TRYING.with_champion("v1"), "v2 is running"),
        (lambda: SERVED.with_champion("v3").with_experiment("v2").rolled_back(), "v2 is running"),
        (lambda: TRYING.with_experiment("v3"), "v2 is running already"),
        (lambda: SERVED.with_experiment("v1"), "champion itself"),
        (lambda: Deployment().with_experiment("v1"), "no champion"),
        (lambda: Deployment().rolled_back(), "no other champion"),
        (lambda: SERVED.with_split(10.0), "no experiment"),
        (lambda: SERVED.promoted(), "no experiment"),
        (lambda: SERVED.aborted("asked to"), "no experiment"),
        (lambda: SERVED.with_thresholds(LAX, "b"), "no experiment"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(change, words):
    with pytest.raises(NoExperiment if words == "no experiment" else DeploymentRefused, match=words):
        change()


VERSIONS = st.sampled_from(["v1", "v2", "v3"])
CHOSEN = st.sampled_from([None, STRICT, LAX])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("with_champion"), VERSIONS),
        st.tuples(st.just("with_experiment"), VERSIONS),
        st.tuples(st.just("rolled_back")),
        st.tuples(st.just("promoted")),
        st.tuples(st.just("aborted"), st.just("asked to")),
        st.tuples(st.just("with_split"), st.floats(0, 100)),
        st.tuples(st.just("with_thresholds"), CHOSEN, st.sampled_from("ab")),
    ),
    max_size=60,
)


@given(steps)
def test_no_order_of_changes_leads_astray(changes):
    deployment = Deployment()
    for name, *given_ in changes:
        try:
            deployment = getattr(deployment, name)(*given_)
        except (DeploymentRefused, NoExperiment):
            continue
        assert len(deployment.previous) <= REMEMBERED
        assert deployment.champion not in deployment.previous[-1:]
        assert deployment.champion is not None or (deployment.experiment is None and not deployment.previous)
        assert deployment.experiment is None or deployment.experiment.version != deployment.champion
    assert msgspec.json.decode(msgspec.json.encode(deployment), type=Deployment) == deployment
