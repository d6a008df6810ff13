"""A load on the balancer, and the record of each request."""
