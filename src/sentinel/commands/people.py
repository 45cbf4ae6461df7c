"""`sentinel users`: who may log in to the console, and as what. Whoever may write to the home folder may do so."""

import contextlib
from collections.abc import Callable, Iterator

import msgspec

from sentinel.commands.owner import ask_owner
from sentinel.config import Settings
from sentinel.errors import DeploymentRefused, InvalidDefinition, StorageProblem
from sentinel.events.times import clock_us, iso
from sentinel.homes import keys_home_of
from sentinel.record.applied import HomeDeployment, by_this_user, log_folder
from sentinel.record.audit import By
from sentinel.record.lock import owner_of
from sentinel.transport.people.database import PeopleDatabase
from sentinel.transport.people.people import ADMIN, People, Person

try:
    from sentinel.transport.people.passwords import new_password
except ModuleNotFoundError as error:
    raise InvalidDefinition(f"people need {error.name}: pip install 'sentinel-fraud[console]'") from None


class ShownPerson(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person, as commands show one; `password` is there the one time that it is shown."""

    name: str
    role: str
    created: str
    seen: str | None
    is_disabled: bool
    password: str | None = None


def add_person(settings: Settings, name: str, role: str) -> ShownPerson:
    """A new person with a password that has to be changed at the first log-in. Raises InvalidInput, Conflict."""
    password = new_password()
    with _people(settings) as people:
        person = people.add(name.lower(), role, password, _by("users add", name), clock_us())
    return _shown(person, password)


def add_first_admin(settings: Settings) -> str:
    """An admin where there is nobody yet, with the password that this returns; it need not be changed."""
    password = new_password()
    with _people(settings) as people:
        people.add_first(password, _by("users add", ADMIN), clock_us(), must_change=False)
    return password


def list_people(settings: Settings) -> list[ShownPerson]:
    """Everyone, by name."""
    with _people(settings) as people:
        return [_shown(one) for one in people.everyone()]


def disable_person(settings: Settings, name: str) -> ShownPerson:
    """Let a person in no more, from now on. Raises NotFound, Conflict."""
    return _changed(settings, lambda people: people.set_disabled(name, True, _by("users disable", name), clock_us()))


def enable_person(settings: Settings, name: str) -> ShownPerson:
    """Let a person in again. Raises NotFound."""
    return _changed(settings, lambda people: people.set_disabled(name, False, _by("users enable", name), clock_us()))


def set_role(settings: Settings, name: str, role: str) -> ShownPerson:
    """Another role. Raises NotFound, InvalidInput, Conflict."""
    return _changed(settings, lambda people: people.set_role(name, role, _by("users role", name), clock_us()))


def renew_password(settings: Settings, name: str) -> ShownPerson:
    """A new password, which has to be changed at the next log-in; sessions end. Raises NotFound."""
    password, by = new_password(), _by("users password", name)
    with _people(settings) as people:
        return _shown(people.set_password(name, password, by, clock_us(), must_change=True), password)


def people_of(settings: Settings) -> People:
    """The people of the tenant whose home this is. Raises StorageProblem, InvalidDefinition."""
    return People(PeopleDatabase(keys_home_of(settings.home), settings.database_url))


@contextlib.contextmanager
def _people(settings: Settings) -> Iterator[People]:
    people = people_of(settings)
    try:
        yield people
        _write_down(settings, people)
    finally:
        people.database.close()


def _changed(settings: Settings, change: Callable[[People], Person]) -> ShownPerson:
    with _people(settings) as people:
        return _shown(change(people))


def _write_down(settings: Settings, people: People) -> None:
    """Move what waits to the audit: through the server that owns the log, or alone. Else the console does so later."""
    home = keys_home_of(settings.home)
    folder = log_folder(home)
    waiting = people.not_audited()
    if not waiting or not folder.exists():
        return
    changes = [change for _, change in waiting]
    with contextlib.suppress(StorageProblem, DeploymentRefused):  # it is safe where it is
        if owner_of(folder) is None:
            HomeDeployment(home).note(changes)
        else:
            of_tenant = msgspec.structs.replace(settings, home=home)
            ask_owner(of_tenant, "/admin/audit", {"changes": [msgspec.structs.asdict(one) for one in changes]})
        people.drop_audited([number for number, _ in waiting])


def _by(what: str, asked: str) -> By:
    return by_this_user(what, asked)


def _shown(person: Person, password: str | None = None) -> ShownPerson:
    seen = None if person.seen_us is None else iso(person.seen_us)
    return ShownPerson(person.name, person.role, iso(person.created_us), seen, person.is_disabled, password)
