"""HTTP over the Unix socket: who may call, which routes there are, what they answer."""
