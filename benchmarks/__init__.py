"""Compare models by accuracy, latency and size, and run whole recipes."""
