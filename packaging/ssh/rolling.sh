#!/bin/sh
# rolling.sh COMMAND HOST...: drain, COMMAND, rejoin on one host after the other, over ssh. The first failure stops it, with
# that host out and the others untouched; its exit is that of the step that failed. COMMAND is one command with its
# words. ZDD_SSH replaces ssh; the user there is root or in the group zdd-agent, or ZDD_AGENT="sudo zdd-agent".
set -eu
[ $# -ge 2 ] || { echo "usage: rolling.sh COMMAND HOST..." >&2; exit 2; }
command=$1
shift
ssh=${ZDD_SSH:-ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=15}
agent=${ZDD_AGENT:-zdd-agent}

# A run that was cut off has left one out, which the guard counts as missing: it goes first.
out='' in=''
for host in "$@"; do
    posture=$($ssh "$host" "$agent status" </dev/null) || exit # nobody leaves before all have answered
    case $posture in in_service*) in="$in $host" ;; *) out="$out $host" ;; esac
done
for host in $out $in; do
    echo "== $host"
    # What a run that was cut off has left under way ends first.
    $ssh "$host" "$agent watch >/dev/null 2>&1; $agent run --reason rolling.sh -- $command" </dev/null
done
