#!/bin/sh
# See drain.sh.
exec zdd-agent rejoin --reason "CodeDeploy ${DEPLOYMENT_ID:-} ${LIFECYCLE_EVENT:-}" </dev/null
