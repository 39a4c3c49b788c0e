"""Search for the shape of network that is most accurate within a size and a latency."""
