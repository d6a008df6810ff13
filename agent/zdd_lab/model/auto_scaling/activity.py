"""A scaling activity, as DescribeScalingActivities tells it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Activity:
    """Moments are in s of the model's clock; the texts are AWS's, the cause without its times."""

    id: str
    group: str
    description: str
    cause: str
    started: float
    status: str = "InProgress"
    ended: float | None = None

    def end(self, now: float, status: str = "Successful") -> None:
        self.status, self.ended = status, now

    @property
    def progress(self) -> int:  # percent
        return 100 if self.ended is not None else 50
