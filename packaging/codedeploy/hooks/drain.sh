#!/bin/sh
# `exec`, and nothing in the background: CodeDeploy waits until nobody holds the hook's output open any more.
exec zdd-agent drain --wait 600 --reason "CodeDeploy ${DEPLOYMENT_ID:-} ${LIFECYCLE_EVENT:-}" </dev/null
