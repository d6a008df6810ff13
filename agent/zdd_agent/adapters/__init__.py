"""One outside thing a module; each maps its own errors into the error tree."""
