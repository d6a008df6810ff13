#!/bin/sh
# See drain.sh.
exec zdd-agent rejoin --timeout "${ZDD_REJOIN_TIMEOUT:-840}" --reason "CodeDeploy ${DEPLOYMENT_ID:-} ${LIFECYCLE_EVENT:-}" </dev/null
