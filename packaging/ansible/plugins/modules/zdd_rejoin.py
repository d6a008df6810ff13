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
  - Asks the app on this host what the health check asks, registers exactly what was drained, and returns when every
    target is C(healthy).
  - A host that is in service already is left as it is, a rejoin that is under way is joined.
  - Nothing is registered as long as the app does not pass. Never call it in C(always) or in a handler, which run after
    a failed deploy as well.
options:
  force:
    description: Checks to skip, each by its name. The agent logs who asked for it.
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

# As good without the collection; `changed` from the agent's own words.
- name: Put this host back with the command
  ansible.builtin.command:
    argv: [zdd-agent, rejoin, --json]
  become: true
  register: rejoined
  changed_when: rejoined.rc == 0 and (rejoined.stdout | from_json).changed
"""

RETURN = r"""
msg:
  description: What was done, or why not, in the agent's own words.
  returned: always
  type: str
  sample: "rejoined: 1 healthy in 9 s"
kind:
  description:
    - What the exit of the command means, as one word. V(done), or the reason of the failure.
    - The whole list is in the agent's C(docs/api.md). The most frequent are V(refused) by a guard, V(timed_out),
      V(unreachable), V(aws_denied), V(busy), V(forbidden) and V(failed).
  returned: always
  type: str
  sample: done
rc:
  description: What C(zdd-agent rejoin) would have exited with.
  returned: always
  type: int
  sample: 0
hint:
  description: What to do next, in the agent's own words.
  returned: on failure
  type: str
value:
  description: What the failure is about, such as a setting, an AWS action or a target group.
  returned: on failure
  type: str
operation:
  description: The operation as the agent keeps it. Moments are seconds since the epoch.
  returned: when an operation was carried out
  type: dict
  contains:
    id: {description: Its name., type: str, returned: always}
    outcome: {description: How it ended., type: str, returned: always, sample: succeeded}
    phase: {description: Where it ended., type: str, returned: always, sample: in_service}
    changed: {description: Whether there was something to do., type: bool, returned: always}
    age_seconds: {description: How long ago it was started., type: float, returned: always}
events:
  description: What the agent said while it was at it.
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
