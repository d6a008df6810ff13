#!/bin/sh
# rolling.sh COMMAND HOST...: drain, COMMAND, rejoin on one host after the other, over ssh. The first failure stops it:
# that host is out, the hosts after it are untouched, and the exit code is that of the step that failed. A host that is
# leaving (EC2 or Auto Scaling ends it) is passed over. COMMAND is one argument, such as "deploy v2". ZDD_SSH replaces
# ssh. The remote user is root or in the group zdd-agent; otherwise set ZDD_AGENT="sudo zdd-agent".
set -eu
[ $# -ge 2 ] || { echo "usage: rolling.sh COMMAND HOST..." >&2; exit 2; }
command=$1
shift
ssh=${ZDD_SSH:-ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=15}
agent=${ZDD_AGENT:-zdd-agent}

# An earlier run that was cut off has left one host out. It goes first: the guard counts it as missing.
out='' in='' deployed='' passed=''
for host in "$@"; do
    posture=$($ssh "$host" "$agent status" </dev/null) || exit # no host leaves before all have answered
    case $posture in
        in_service*) in="$in $host" ;;
        leaving*) passed="$passed $host" ;;
        *) out="$out $host" ;;
    esac
done
for host in $out $in; do
    echo "== $host"
    # An operation that such a run has left under way ends first.
    if $ssh "$host" "$agent watch >/dev/null 2>&1; $agent run --reason rolling.sh -- $command" </dev/null; then
        deployed="$deployed $host"
        continue
    else
        code=$?
    fi
    case $($ssh "$host" "$agent status" </dev/null) in
        leaving*) passed="$passed $host" ;; # since the start of this run
        *) exit "$code" ;;
    esac
done
echo "deployed:${deployed:- none}"
[ -z "$passed" ] || echo "passed over, not deployed, since EC2 or Auto Scaling ends them:$passed"
[ -n "$deployed" ] || exit 4
