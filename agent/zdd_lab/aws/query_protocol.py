"""The query protocol by the API's own model: reads the parameters of a call, writes the XML of a result.

https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
"""

import time
from collections.abc import Mapping
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

from botocore.loaders import Loader
from botocore.model import ServiceModel


@cache
def service(name: str) -> ServiceModel:
    """The model of a service's API, which botocore ships."""
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def read(shape: Any, params: Mapping[str, str], prefix: str = "") -> Any:
    """The parameters of a call as a value of a shape: structures as dicts, without what is not given."""
    if shape.type_name == "structure":
        return {
            name: read(member, params, f"{prefix}.{name}" if prefix else name)
            for name, member in shape.members.items()
            if _given(params, f"{prefix}.{name}" if prefix else name)
        }
    if shape.type_name == "list":
        values: list[Any] = []
        while _given(params, one := f"{prefix}.member.{len(values) + 1}"):
            values.append(read(shape.member, params, one))
        return values
    return _scalar(shape.type_name, params.get(prefix, ""))


def render(shape: Any, value: Any) -> str:
    """The XML of a value of a shape, without its own element. Members that are None or unknown are left out."""
    if shape.type_name == "structure":
        return "".join(
            f"<{name}>{render(member, value[name])}</{name}>"
            for name, member in shape.members.items()
            if value.get(name) is not None
        )
    if shape.type_name == "list":
        return "".join(f"<member>{render(shape.member, one)}</member>" for one in value)
    if shape.type_name == "timestamp":
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value))
    if isinstance(value, bool):
        return str(value).lower()
    return escape(str(value))


def _given(params: Mapping[str, str], name: str) -> bool:
    return any(one == name or one.startswith(f"{name}.") for one in params)


def _scalar(kind: str, text: str) -> Any:
    if kind in ("integer", "long"):
        return int(text)
    if kind in ("float", "double"):
        return float(text)
    return text == "true" if kind == "boolean" else text
