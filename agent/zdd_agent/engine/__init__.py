"""Carries operations out: the record on disk, the loop that waits, the effects, and what is reported."""
