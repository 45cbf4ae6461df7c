"""`GET /v1/business`: what fraud costs and what is saved, from the sums of days in the view."""

from contextlib import closing

from fastapi import FastAPI, Request, Response

from sentinel.events.times import clock_us, duration_us
from sentinel.review.business import asked_of, business
from sentinel.transport.http.api import Api
from sentinel.transport.http.replies import ok


def add_business(app: FastAPI, api: Api) -> None:
    """The call."""

    @app.get("/v1/business", tags=["decisions"])
    def figures(request: Request) -> Response:
        """Fraud in basis points, approval rate, money saved and lost, customers disturbed, precision, chargebacks.

        Of the days (UTC) from `from` to before `to`, the last 30 unless they are given, `each` day, week or month.
        `by` is `model`, `variant` or a field of the schema that has few values, as `field:country`; `value` is one
        value of it alone. `source` says who tells of chargebacks. Money is in whole minor units. Where `is_mature` is
        false outcomes are still to come, and fraud is more than is shown.
        """
        now_us = clock_us()
        asked = asked_of(dict(request.query_params), now_us)
        delay = api.settings.label_delay
        with closing(api.view.open()) as view:
            return ok(business(view, asked, now_us, (delay, duration_us(delay)), _currency(api)))


def _currency(api: Api) -> str | None:
    """The one that the champion's detector declares."""
    lineup = api.predictor.lineup
    return None if lineup is None else lineup.champion.bundle.manifest.currency
