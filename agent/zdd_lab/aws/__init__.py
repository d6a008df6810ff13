"""AWS's endpoint: the wire formats, and moto behind them."""
