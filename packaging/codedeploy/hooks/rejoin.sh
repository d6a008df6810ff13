#!/bin/sh
# See drain.sh. Nothing is in the background here either.
zdd-agent rejoin --timeout "${ZDD_REJOIN_TIMEOUT:-840}" --reason "CodeDeploy ${DEPLOYMENT_ID:-} ${LIFECYCLE_EVENT:-}" </dev/null && exit
code=$?
# EC2 or Auto Scaling ends this host. A failure would end the deployment, so CodeDeploy counts it as succeeded.
case $(zdd-agent status </dev/null) in
    leaving*) echo "passed over: this host is leaving; it gets no traffic any more" ;;
    *) exit "$code" ;;
esac
