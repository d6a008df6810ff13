"""An error of AWS, independent of the protocol that carries it."""

_STATUS = {  # all others are 400, as the API models say
    "AccessDenied": 403,
    "ExpiredToken": 403,
    "HealthUnavailable": 500,
    "InternalFailure": 500,
    "ResourceContention": 500,
    "ServiceUnavailable": 503,
}


class AwsError(Exception):
    """A refused call: AWS's error code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return _STATUS.get(self.code, 400)
