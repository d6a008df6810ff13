#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright 2026 The zdd-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Put this host back behind its load balancers"""

from __future__ import annotations

DOCUMENTATION = r"""
module: zdd_rejoin
short_description: Put this host back behind its load balancers
version_added: 0.1.0
description:
  - Probes the app on this host as the health check does, registers exactly what was drained, and returns when every
    target is C(healthy).
  - Changes nothing on a host that is in service already, and joins a rejoin that is under way.
  - Registers nothing as long as the app does not pass. Never call it in C(always) or in a handler, because those run
    after a failed deploy too.
options:
  force:
    description: Names of the checks to skip. The agent logs who asked for it.
    type: list
    elements: str
    choices: [probe]
    default: []
extends_documentation_fragment:
  - zdd.agent.agent.socket
  - zdd.agent.agent.operation
seealso:
  - module: zdd.agent.zdd_drain
  - module: zdd.agent.zdd_status
"""

EXAMPLES = r"""
- name: Put this host back
  zdd.agent.zdd_rejoin:
  become: true

# This works without the collection; `changed` comes from the agent.
- name: Put this host back with the command
  ansible.builtin.command:
    argv: [zdd-agent, rejoin, --json]
  become: true
  register: rejoined
  changed_when: rejoined.rc == 0 and (rejoined.stdout | from_json).changed
"""

RETURN = r"""
msg:
  description: What was done, or why it failed, as the agent says it.
  returned: always
  type: str
  sample: "rejoined: 1 healthy in 9 s"
kind:
  description:
    - The meaning of the exit code, in one word. V(done), or the reason of the failure.
    - The whole list is in the agent's C(docs/api.md). The most frequent ones are V(refused) by a guard, V(timed_out),
      V(unreachable), V(aws_denied), V(busy), V(forbidden) and V(failed).
  returned: always
  type: str
  sample: done
rc:
  description: The exit code that C(zdd-agent rejoin) would have had.
  returned: always
  type: int
  sample: 0
hint:
  description: What to do next.
  returned: on failure
  type: str
value:
  description: The thing that the failure is about, such as a setting, an AWS action or a target group.
  returned: on failure
  type: str
operation:
  description: The operation as the agent records it. Moments are seconds since the epoch.
  returned: when an operation was carried out
  type: dict
  contains:
    id: {description: Its ID., type: str, returned: always}
    outcome: {description: How it ended., type: str, returned: always, sample: succeeded}
    phase: {description: Where it ended., type: str, returned: always, sample: in_service}
    changed: {description: Whether there was something to do., type: bool, returned: always}
    age_seconds: {description: How long ago it was started., type: float, returned: always}
events:
  description: What the agent said during the operation.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.zdd.agent.plugins.module_utils.agent import operate, operation_spec


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=operation_spec(["probe"]), supports_check_mode=True)
    operate(module, "rejoin", {})


if __name__ == "__main__":
    main()
