"""Which feature is at fault where a plan cannot be computed."""

from collections.abc import Iterator
from contextlib import contextmanager

from sentinel.errors import InvalidDefinition
from sentinel.features.definitions import Feature


class WrongFeature(InvalidDefinition):
    """A feature cannot be computed: `feature` is the one at fault."""

    def __init__(self, feature: Feature, why: str) -> None:
        super().__init__(why)
        self.feature = feature


@contextmanager
def blaming(feature: Feature) -> Iterator[None]:
    """What is wrong in here is this feature's fault, unless one that it is made of was blamed. Raises WrongFeature."""
    try:
        yield
    except WrongFeature:
        raise
    except InvalidDefinition as error:
        raise WrongFeature(feature, str(error)) from error
