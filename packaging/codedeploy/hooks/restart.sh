#!/bin/sh
# systemd starts the app, not this script. An app that you start here yourself needs >/dev/null 2>&1 </dev/null, or it
# holds the hook's output open and the deployment hangs until the hook's time-out.
exec systemctl restart "${ZDD_UNIT:-app.service}" </dev/null
