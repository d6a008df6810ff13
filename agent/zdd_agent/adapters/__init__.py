"""One module for each outside thing; each maps its own errors into the error tree."""
