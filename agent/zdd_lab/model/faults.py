"""Faults on request: what goes wrong, for whom and how often."""

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self


class FaultKind(StrEnum):
    """What can go wrong."""

    LATENCY = "latency"  # the answer comes `seconds` late
    THROTTLING = "throttling"
    ACCESS_DENIED = "access_denied"
    EXPIRED_TOKEN = "expired_token"  # noqa: S105  # AWS's word for it, no secret
    SERVICE_UNAVAILABLE = "service_unavailable"  # 503
    INTERNAL_FAILURE = "internal_failure"  # 500
    ERROR = "error"  # a refusal with `code`: HealthUnavailable, TooManyTargets…
    TIMEOUT_BEFORE_EFFECT = "timeout_before_effect"  # nothing changes, no answer comes
    TIMEOUT_AFTER_EFFECT = "timeout_after_effect"  # the change is made, no answer comes
    IMDS_DOWN = "imds_down"  # instance metadata resets every connection
    ZONE_DOWN = "zone_down"  # the load balancers' nodes in `zone` are down


OF_THE_API = frozenset(FaultKind) - {FaultKind.IMDS_DOWN, FaultKind.ZONE_DOWN}
KEYS = ("action", "service", "client", "zone", "count", "code", "seconds")  # of a fault in JSON, beside its kind
_DEFAULT_SECONDS = {FaultKind.LATENCY: 1.0}
_HANG = 600.0  # s that a call without an answer stays open: longer than any client waits


class BadFaultError(ValueError):
    """A fault that does not exist. The text says which do."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. A filter that is None matches every call."""

    kind: FaultKind
    action: str | None = None  # an API action, such as DeregisterTargets
    service: str | None = None  # whose actions, such as dynamodb; without it those of every service
    client: str | None = None  # a host's name (h1), or "person"
    zone: str | None = None  # a or b, for zone_down
    count: int | None = None  # how many times; None: until cleared
    code: str | None = None  # AWS's error code, for error
    seconds: float | None = None  # latency: how late the answer is; timeouts: how long the call hangs
    id: int = 0

    @property
    def duration(self) -> float:
        return _DEFAULT_SECONDS.get(self.kind, _HANG) if self.seconds is None else self.seconds

    @classmethod
    def parse(cls, wanted: dict[str, Any]) -> Self:
        """Read a fault from JSON.

        Raises:
            BadFaultError: unknown kind or key, or a value of the wrong type.
        """
        unknown = set(wanted) - {"kind", *KEYS}
        if unknown:
            raise BadFaultError(f"unknown key {sorted(unknown)[0]!r}: accepted are kind, {', '.join(KEYS)}")
        try:
            kind = FaultKind(str(wanted.get("kind")).replace("-", "_"))
        except ValueError:
            kinds = ", ".join(FaultKind)
            raise BadFaultError(f"unknown kind {wanted.get('kind')!r}: accepted are {kinds}") from None
        for name, types in (
            ("action", str),
            ("service", str),
            ("client", str),
            ("zone", str),
            ("code", str),
            ("count", int),
            ("seconds", (int, float)),
        ):
            value = wanted.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
                raise BadFaultError(f"{name} cannot be {value!r}")
        for name in ("count", "seconds"):
            if wanted.get(name) is not None and wanted[name] <= 0:
                raise BadFaultError(f"{name} must be more than 0")
        needed = {FaultKind.ZONE_DOWN: "zone", FaultKind.ERROR: "code"}.get(kind)
        if needed and not wanted.get(needed):
            raise BadFaultError(f"{kind} needs a {needed}")
        return cls(**{**wanted, "kind": kind})

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class FaultTable:
    """The faults that are active. The oldest that matches strikes first."""

    _faults: list[Fault] = field(default_factory=list)
    _last_id: int = 0

    def add(self, fault: Fault) -> Fault:
        self._last_id += 1
        fault = replace(fault, id=self._last_id)
        self._faults.append(fault)
        return fault

    def clear(self, fault_id: int | None = None) -> None:
        """End one fault, or all."""
        self._faults = [one for one in self._faults if fault_id is not None and one.id != fault_id]

    def all(self) -> tuple[Fault, ...]:
        return tuple(self._faults)

    def take(
        self, *kinds: FaultKind, action: str | None = None, service: str | None = None, client: str | None = None
    ) -> Fault | None:
        """The fault that strikes this call, if any. Its count goes down by one."""
        for place, fault in enumerate(self._faults):
            filters = ((fault.action, action), (fault.service, service), (fault.client, client))
            if fault.kind not in kinds or any(wanted not in (None, found) for wanted, found in filters):
                continue
            if fault.count is not None:
                if fault.count <= 1:
                    del self._faults[place]
                else:
                    self._faults[place] = replace(fault, count=fault.count - 1)
            return fault
        return None

    def zones_down(self) -> frozenset[str]:
        return frozenset(one.zone for one in self._faults if one.kind is FaultKind.ZONE_DOWN and one.zone)
