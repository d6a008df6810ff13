"""An error as AWS answers it, before it is written in the words of one protocol."""

_STATUS = {  # what is not here is 400, as the API models say
    "AccessDenied": 403,
    "ExpiredToken": 403,
    "HealthUnavailable": 500,
    "InternalFailure": 500,
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
        """The HTTP status that goes with the code."""
        return _STATUS.get(self.code, 400)
