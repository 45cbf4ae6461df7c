"""The faults that Sentinel names. Each message carries the facts and says what to do."""


class SentinelError(Exception):
    """Base of every error that Sentinel raises on purpose; its text is fit for a user to read."""


class InvalidInput(SentinelError):
    """A transaction, outcome or body that cannot be accepted as it is.

    `path` names the field (`$.amount`), or `$` for the whole body.
    """

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(f"{message} - at `{path}`")
        self.path = path


class InvalidDefinition(SentinelError):
    """A detector, schema or feature was declared in a way that cannot work."""


class DataProblem(SentinelError):
    """A file of transactions cannot be read, or lacks what the detector needs."""


class NotUtf8(DataProblem):
    """A text file is in another encoding; `perhaps` is the one that reads most such files."""

    def __init__(self, path: str, line: int | None, perhaps: str) -> None:
        where = "" if line is None else f" (line {line})"
        super().__init__(f"{path} is not UTF-8{where}; say what it is, as in --encoding {perhaps}")
        self.perhaps = perhaps


class BundleProblem(SentinelError):
    """A model bundle is missing, incomplete, altered, or does not fit this version of Sentinel."""


class VersionTaken(SentinelError):
    """Another training took the number of a version first."""

    def __init__(self, version: str) -> None:
        super().__init__(f"{version} is taken; train again, which takes the next")


class CertificateRefused(SentinelError):
    """The exported model does not answer as the trained one does."""


class GateRefused(SentinelError):
    """A model that does not meet the promotion policy it was held against."""


class DeploymentRefused(SentinelError):
    """A change of the deployment that does not fit what is in force, such as a swap during an experiment."""


class NoExperiment(SentinelError):
    """A change of an experiment while none is running."""


class StorageProblem(SentinelError):
    """The log, a snapshot, a view, models in S3 or what shadows scored cannot be read or written."""


class NoObject(StorageProblem):
    """There is no object of that name in a store of objects, or no bucket."""


class ObjectTaken(StorageProblem):
    """There is an object of that name already, and it is not to be replaced."""


class LogDamaged(StorageProblem):
    """Entries of the log that were durable are not as they were written; the message names the segment.

    `position` is that of the first entry that cannot be trusted.
    """

    def __init__(self, message: str, segment: str, position: int) -> None:
        super().__init__(message)
        self.segment = segment
        self.position = position


class NotTheOwner(StorageProblem):
    """Another process owns the log and answers; this one stands by, or has been replaced."""


class NotReady(SentinelError):
    """No model can answer at the moment; the text says why."""


class Overloaded(SentinelError):
    """The queue is full; the caller should retry shortly."""


class RateLimited(SentinelError):
    """A caller sends more than it may; `retry_after_s` is when it may again."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Conflict(SentinelError):
    """What was said before does not fit: the id was decided with other content, or its outcome told too often."""


class NotFound(SentinelError):
    """Nothing is stored under that id."""


class BadBody(SentinelError):
    """A request body that cannot be taken apart: broken JSON, wrong encoding, nothing in it."""


class Malformed(SentinelError):
    """The bytes on a connection are no HTTP request, or one that two readers could read in two ways."""


class LongHead(SentinelError):
    """The head of a request, or a line of it, is too long, or has too many lines."""


class TooSlow(SentinelError):
    """A client began a request and did not finish it in time."""


class Crowded(SentinelError):
    """As many connections are open as there may be, or they hold as much as they may."""


class TooLarge(SentinelError):
    """A request body, or a batch, above its limit."""


class WrongMedia(SentinelError):
    """A request body of a type that is not understood."""


class Unauthorized(SentinelError):
    """A call without a key, or with one that is wrong, has expired or was revoked."""


class Forbidden(SentinelError):
    """A call that its key does not allow, that asks for another host, or comes from a web page that is not ours."""


class UnknownVersion(SentinelError):
    """A change of the deployment names a model that is not there or cannot be loaded."""
