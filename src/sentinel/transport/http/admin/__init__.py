"""Admin calls: which models decide and how, while traffic runs. A change of the deployment is an entry of the log.

Who may make them is decided at the door (`transport/http/door.py`) by the table in `transport/access/scopes.py`.
"""

from fastapi import APIRouter

from sentinel.serve.watch import Watch
from sentinel.transport.http.admin.audit import add_audit
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.admin.corrections import add_corrections
from sentinel.transport.http.admin.experiments import add_experiments
from sentinel.transport.http.admin.log import add_log
from sentinel.transport.http.admin.models import add_models
from sentinel.transport.http.admin.notifications import add_notifications
from sentinel.transport.http.admin.retrainings import add_retrainings
from sentinel.transport.http.admin.score_curves import add_score_curves
from sentinel.transport.http.admin.watching import add_watching
from sentinel.transport.http.api import Api


def admin_routes(api: Api, watch: Watch) -> APIRouter:
    """The routes under `/admin`."""
    router = APIRouter(prefix="/admin", tags=["admin"])
    changes = Changes(api, watch)
    add_models(router, changes)
    add_experiments(router, changes)
    add_watching(router, changes)
    add_score_curves(router, changes)
    add_retrainings(router, changes)
    add_log(router, changes)
    add_corrections(router, changes)
    add_audit(router, changes)
    add_notifications(router, changes)
    return router
