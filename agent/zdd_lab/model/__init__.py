"""The clockless truth of the lab: what AWS knows, without I/O."""
