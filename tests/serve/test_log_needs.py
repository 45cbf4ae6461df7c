"""The log is kept for whoever reads it on: the case opener, and who tells others of results."""

import shutil
from contextlib import closing

from sentinel.model.bundle import load_bundle
from sentinel.policy.deployment import Deployment
from sentinel.record.applied import apply
from sentinel.record.pruning import Outlook, Retention
from sentinel.record.views.place import ViewPlace
from sentinel.record.written.readings import RESULTS
from sentinel.record.written.tables import readings
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.review.case_store.progress import ReadUpTo, move_on
from sentinel.serve.lineup import Contender, Lineup
from sentinel.serve.log_needs import log_needs

HOUR_US = 3_600_000_000
KEPT = Retention(keep_us=HOUR_US, remember_us=HOUR_US)


def held_by(home, log, now_us, *, opens_cases, tells_others):
    needs = log_needs(None, opens_cases=opens_cases, tells_others=tells_others)
    outlook = Outlook(home, log, ViewPlace(home), needs)
    return [need.why for need in outlook.plan(KEPT, 99, now_us).held_by]


def test_results_that_nobody_was_told_of_yet_stay_in_the_log(home_of, shop_home):
    home = home_of(Lineup(1, Contender(load_bundle(shop_home / "models" / "v1"))))
    shutil.copytree(shop_home / "models", home.folder / "models")
    home.segment = 8_192
    home.open()
    apply(home.log, lambda _nothing: Deployment().with_champion("v1"), home.now_us)
    for hour in range(30):
        home.now_us += HOUR_US
        home.pay(range(10 * hour, 10 * hour + 10))
    about = "results are told of up to position 5"
    both = {"opens_cases": True, "tells_others": True}
    assert "the case opener has read up to position 0" in held_by(home.folder, home.log, home.now_us, **both)
    assert about not in held_by(home.folder, home.log, home.now_us, **both)  # it begins at the end
    with closing(WrittenDatabase(home.folder)) as database, database.writing() as writer:
        writer.execute(readings.insert().values(reader=RESULTS, log_id=home.log.log_id, position=5))
        move_on(writer, None, ReadUpTo(home.log.log_id, home.log.durable, b""))
    found = held_by(home.folder, home.log, home.now_us, **both)
    assert about in found
    assert not any("case opener" in one for one in found)
    assert about not in held_by(home.folder, home.log, home.now_us, opens_cases=True, tells_others=False)
