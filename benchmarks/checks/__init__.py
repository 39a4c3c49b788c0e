"""Programs that measure what edgecifar and its models cost, each run as a module."""
