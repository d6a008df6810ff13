"""Print the description of the API: `.venv/bin/python scripts/openapi.py > docs/openapi.json`."""

import json

from zdd_agent.api.openapi import document
from zdd_agent.api.routes import ROUTES

print(json.dumps(document(ROUTES), indent=2))
