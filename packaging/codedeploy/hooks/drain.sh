#!/bin/sh
# `exec`, and nothing in the background: CodeDeploy waits until no process has the hook's output open.
exec zdd-agent drain --wait 600 --reason "CodeDeploy ${DEPLOYMENT_ID:-} ${LIFECYCLE_EVENT:-}" </dev/null
