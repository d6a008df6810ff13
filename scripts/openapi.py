"""Print the description of the API: `.venv/bin/python scripts/openapi.py > docs/openapi.json`."""  # noqa: INP001  a script

import json

from zdd_agent.openapi import document
from zdd_agent.server import ROUTES

print(json.dumps(document(ROUTES), indent=2))
