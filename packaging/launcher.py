#!@PYTHON@ -ISs
# -I and -S: only the interpreter's own library and the package's own tree are imported, whatever else this host has.
import sys

sys.path.insert(0, "/usr/lib/zdd-agent")
from zdd_agent.__main__ import main

main()
