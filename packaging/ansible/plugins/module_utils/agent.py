# Copyright 2026 The zdd-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Calls the agent over its socket, for the modules. Standard library only: it runs on the managed host."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress

from ansible.module_utils.basic import env_fallback

DEFAULT_SOCKET = "/run/zdd-agent/agent.sock"
# Seconds in which a live agent accepts a connection; systemd holds the socket while it starts.
CONNECT_SECONDS = 5.0
# Seconds for an answer: the agent may ask AWS, with its retries, before it answers.
ANSWER_SECONDS = 60.0
# Seconds that one long poll lasts.
POLL_SECONDS = 25.0
# Seconds to wait for an agent that restarts in the middle of an operation: it resumes the operation.
RECONNECT_SECONDS = 30.0
# How many other operations this one waits for, one after another, before it fails as busy.
BUSY_TRIES = 5

# The exit code of the command for each kind: the table in docs/api.md.
EXIT_CODES = {
    "done": 0,
    "failed": 1,
    "cancelled": 1,
    "aws_unavailable": 1,
    "metadata_unavailable": 1,
    "target_group_not_found": 1,
    "no_membership": 1,
    "store": 1,
    "usage": 2,
    "configuration": 2,
    "not_found": 2,
    "method_not_allowed": 2,
    "too_large": 2,
    "too_slow": 2,
    "timed_out": 3,
    "refused": 4,
    "unreachable": 5,
    "too_many_connections": 5,
    "aws_denied": 6,
    "busy": 7,
    "forbidden": 8,
}
# The posture and the state of a target after the operation, for the diff in check mode.
_AFTER = {"drain": ("drained", "unused"), "rejoin": ("in_service", "healthy")}


class AgentError(Exception):
    """What the agent could not do, with its message."""

    def __init__(self, kind, message, hint="", value=None, operation=None):
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.value = value
        self.operation = operation


class Agent:
    """Calls the agent at this socket."""

    def __init__(self, path):
        self._path = path
        self.events = []

    def status(self):
        """Where the host stands."""
        return self.call("GET", "/v1/status")

    def call(self, method, target, body=None, extra=0.0):
        """One request and its answer, which may take `extra` seconds more than ANSWER_SECONDS. Raises AgentError."""
        raw = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: zdd-agent\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        )
        code, answer = self._exchange(head.encode() + raw, ANSWER_SECONDS + extra)
        error = answer.get("error")
        if code >= 400 and isinstance(error, dict) and "verb" not in answer:
            said = error.get("message", "the agent gave no reason")
            raise AgentError(error.get("kind", "failed"), said, error.get("hint", ""), error.get("value"))
        return answer

    def carry_out(self, verb, body, patient):
        """Start or join the operation and wait for its end. `patient`: first wait for another one under way."""
        for tries_left in reversed(range(BUSY_TRIES)):
            try:
                operation = self.call("POST", "/v1/" + verb, body)
                break
            except AgentError as error:
                if error.kind != "busy" or not patient or not tries_left:
                    raise
            other = self.status()["operation"]
            if other is not None and other["outcome"] is None:
                self._follow(other)
        operation = self._follow(operation)
        error = operation["error"]
        if error is not None:
            raise AgentError(error["kind"], error["message"], error["hint"], error["value"], operation)
        return operation

    def _follow(self, operation):
        after = 0
        while True:
            operation = self._patiently(f"/v1/operations/{operation['id']}?wait={POLL_SECONDS:.0f}&after={after}")
            for event in operation["events"]:
                after = event["seq"]
                self.events.append(f"{operation['verb']}: {event['text']}")
            if operation["outcome"] is not None:
                return operation

    def _patiently(self, target):
        give_up = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                return self.call("GET", target, extra=POLL_SECONDS)
            except AgentError as error:
                if error.kind != "unreachable" or time.monotonic() > give_up:
                    raise
            time.sleep(0.2)

    def _exchange(self, request, seconds):
        received = b""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(CONNECT_SECONDS)
            connection.connect(self._path)
            connection.settimeout(seconds)
            # A refusal comes with a hang-up, perhaps before the request is out: the answer is what counts.
            with suppress(BrokenPipeError):
                connection.sendall(request)
            with suppress(ConnectionResetError):
                chunk = connection.recv(65536)
                while chunk:
                    received += chunk
                    chunk = connection.recv(65536)
        except PermissionError:
            said = f"cannot reach the agent: this user may not use {self._path}"
            hint = "use `become: true`, or add the user to the group zdd-agent"
            raise AgentError("forbidden", said, hint) from None
        except socket.timeout:  # not TimeoutError before Python 3.10
            raise self._unreachable("it does not answer") from None
        except OSError as error:
            raise self._unreachable(error.strerror or str(error)) from None
        finally:
            connection.close()
        head, _sep, body = received.partition(b"\r\n\r\n")
        try:
            code = int(head.split(None, 2)[1])
            answer = json.loads(body.decode())
        except (IndexError, ValueError):
            raise self._unreachable("it hung up in the middle of an answer") from None
        if not isinstance(answer, dict):
            raise self._unreachable("something other than zdd-agent answers there")
        return code, answer

    def _unreachable(self, cause):
        hint = "start it with `systemctl start zdd-agent`, or see `journalctl -u zdd-agent`"
        return AgentError("unreachable", f"cannot reach the agent at {self._path}: {cause}", hint)


def socket_spec():
    """The option that every module has."""
    return {"socket": {"type": "path", "default": DEFAULT_SOCKET, "fallback": (env_fallback, ["ZDD_AGENT_SOCKET"])}}


def operation_spec(checks):
    """The options of a module that starts an operation; `checks` are the checks that can be skipped."""
    return dict(
        socket_spec(),
        timeout={"type": "float"},
        reason={"type": "str", "default": "Ansible"},
        force={"type": "list", "elements": "str", "choices": list(checks), "default": []},
        when_busy={"type": "str", "choices": ["wait", "fail"], "default": "wait"},
    )


def operate(module, verb, body):
    """Run the module: carry out the operation, or say in check mode what it would do. Ends the process."""
    agent = Agent(module.params["socket"])
    result = {"changed": False, "kind": "done", "rc": 0, "events": agent.events}
    asked = {key: value for key, value in body.items() if value not in (None, [])}
    asked["reason"] = module.params["reason"]
    for name in ("timeout", "force"):
        if module.params[name]:
            asked[name] = module.params[name]
    try:
        before = _picture(agent.status()) if module._diff else None
        if module.check_mode:
            targets = _plan(agent, verb, asked)
            result["changed"] = bool(targets)
            does = "deregister" if verb == "drain" else "register"
            result["msg"] = f"would {does} {', '.join(targets) or 'nothing'}"
            after = _foreseen(before, verb, targets) if before else None
        else:
            operation = agent.carry_out(verb, asked, module.params["when_busy"] == "wait")
            result["operation"] = _without_events(operation)
            result["msg"] = operation["message"]
            result["changed"] = operation["changed"]
            after = _picture(agent.status()) if before else None
    except AgentError as error:
        fail(module, error, events=agent.events)
    if before is not None:
        result["diff"] = {"before": before, "after": after}
    module.exit_json(**result)


def fail(module, error, **more):
    """End the module with the agent's error."""
    if error.operation is not None:
        more["operation"] = _without_events(error.operation)
    rc = EXIT_CODES.get(error.kind, 1)
    module.fail_json(msg=error.message, hint=error.hint, value=error.value, kind=error.kind, rc=rc, **more)


def _plan(agent, verb, asked):
    plan = agent.call("POST", "/v1/" + verb, dict(asked, dry_run=True))
    refusal = plan["refusal"]
    if refusal is not None:
        raise AgentError(refusal["kind"], "would be refused: " + refusal["message"], refusal["hint"], refusal["value"])
    return [_name(target) for target in plan["targets"]]


def _without_events(operation):
    return {key: value for key, value in operation.items() if key != "events"}


def _picture(status):
    states = {_name(target): target["state"] or "not asked yet" for target in status["targets"]}
    return {"posture": status["posture"], "targets": states}


def _foreseen(before, verb, targets):
    if not targets:
        return before
    posture, state = _AFTER[verb]
    return {"posture": posture, "targets": dict(before["targets"], **dict.fromkeys(targets, state))}


def _name(target):
    return f"{target['target_group']} {target['id']}:{target['port']}"
