"""The data plane: the load balancers' nodes, which check targets and forward requests."""
