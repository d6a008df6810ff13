#!/bin/sh
# systemd starts the app, not this script. If you start it here yourself, add >/dev/null 2>&1 </dev/null: otherwise it
# keeps the hook's output open, and the deployment hangs until the hook's timeout.
exec systemctl restart "${ZDD_UNIT:-app.service}" </dev/null
