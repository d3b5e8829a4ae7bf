"""The domain errors of all three programs.

    ParetoServeError
    |-- UsageError
    |-- StoreError
    |-- VariantError
    |   `-- ManifestError, IntegrityError, GoldenError, NoRoomError
    `-- RequestError
        `-- NotFoundError, InvalidInputError, UnavailableError, OverloadedError, ExpiredError, ControlError, EngineError

They know nothing of gRPC: `server/status.py` maps them to codes.
"""


class ParetoServeError(Exception):
    """Root of the tree; its text is written for the person who reads it."""


class UsageError(ParetoServeError):
    """A setting, study or plan that cannot be carried out; known before any work starts."""


class StoreError(ParetoServeError):
    """A repository that is kept elsewhere cannot be read or written now."""


class VariantError(ParetoServeError):
    """A built variant that cannot be served, or must not."""


class ManifestError(VariantError):
    """The manifest is missing, malformed or of another schema."""


class IntegrityError(VariantError):
    """A file of the variant is missing, or not the one that was published."""


class GoldenError(VariantError):
    """The answers on the golden inputs are not those that were measured."""


class NoRoomError(VariantError):
    """There is no memory for the variant at the moment."""


class RequestError(ParetoServeError):
    """One request cannot be answered. `retry_after`: seconds after which it may be, where that is known."""

    retry_after: float | None = None


class NotFoundError(RequestError):
    """No model or variant of that name."""


class InvalidInputError(RequestError):
    """A tensor that does not fit the model's inputs, or a request that contradicts itself."""


class UnavailableError(RequestError):
    """The variant is loading, cold, failed or unloading, or the server drains."""


class OverloadedError(RequestError):
    """Admission is full; nothing was queued."""

    retry_after = 0.0


class ExpiredError(RequestError):
    """The deadline passed while the request was queued; it was never executed."""


class ControlError(RequestError):
    """What is served cannot be changed as asked: that is not allowed here, or the repository is not fit for it."""


class EngineError(RequestError):
    """A fault inside the engine. The text goes to the client; the cause stays in the log."""
