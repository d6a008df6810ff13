"""Child processes and small servers that end with the lab."""
