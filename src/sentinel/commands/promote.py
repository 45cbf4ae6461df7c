"""Which version decides, from the command line: the server that owns the log is asked, or the log is written to."""

from sentinel.commands.owner import ask_owner
from sentinel.commands.registry_of_home import registry_of
from sentinel.config import Settings
from sentinel.events.reader import TransactionReader
from sentinel.model.bundle import Bundle, load_warm
from sentinel.model.gate_verdicts import check_may_promote
from sentinel.record.applied import Check, HomeDeployment, by_this_user, deployment_in
from sentinel.record.feature_state import check_reads
from sentinel.record.log import LogReader
from sentinel.record.whole_snapshots import check_kept
from sentinel.serve.lineup import check_fits


def promote_version(settings: Settings, version: str, forced_because: str | None = None) -> None:
    """Make a version the champion, once it has been loaded and has scored here; what fails changes nothing.

    Where the home folder has a promotion policy it has to have passed the gate, unless somebody says why it is
    `forced_because`: that is kept in the audit. Raises BundleProblem for a version that is not there or cannot decide,
    DeploymentRefused when the gate or the server that runs says no, UnknownVersion for a model that cannot read the
    transactions of the log.
    """
    bundle = _loaded(settings, version)
    deployment = HomeDeployment(settings.home)
    check_log = _check_of(settings, bundle)

    def check(log: LogReader) -> None:
        if forced_because is None:  # of the champion as it is when no other process can change it
            check_may_promote(settings.home, version, bundle.manifest_sha256, deployment_in(log).champion)
        check_log(log)

    if forced_because is None:
        check_may_promote(settings.home, version, bundle.manifest_sha256, deployment.read().champion)
    asked = {"version": version} | ({} if forced_because is None else {"forced_because": forced_because})
    if ask_owner(settings, "/admin/reload", asked) is None:
        deployment.promote(version, forced_because, check)


def roll_back(settings: Settings) -> str:
    """Make the champion before this one decide again; its version. Nobody asks it for a pass: it has decided before.

    Raises DeploymentRefused where there was none, or an experiment runs, BundleProblem where it is not what it was.
    """
    answer = ask_owner(settings, "/admin/rollback", {})
    if answer is not None:
        return str(answer["new_version"])
    deployment = HomeDeployment(settings.home)
    back = deployment.read().rolled_back()
    assert back.champion is not None  # noqa: S101 - refused otherwise
    bundle = _loaded(settings, back.champion)
    back.check_is_meant(back.champion, bundle.manifest_sha256)
    by = by_this_user("rollback", back.champion)
    after = deployment.change(lambda before: before.rolled_back(), by, _check_of(settings, bundle))
    return str(after.champion)


def _loaded(settings: Settings, version: str) -> Bundle:
    """A bundle that has scored, and whose transactions can be read here."""
    bundle = load_warm(registry_of(settings), version)
    TransactionReader(bundle.manifest.plan.schema, settings.secrets())  # or there is no key
    return bundle


def _check_of(settings: Settings, bundle: Bundle) -> Check:
    def check(log: LogReader) -> None:
        check_reads(log, bundle.manifest)
        check_fits(deployment_in(log).rules, bundle)
        check_kept(log, bundle.manifest, settings.snapshots)

    return check
