"""HTTP/1.1 on asyncio, for the load balancer, the app and the load."""
