"""Training on a machine that has an accelerator and JAX, but no TensorFlow.

TensorFlow compiles what a fit computes to StableHLO here (`programs`); a script that needs NumPy
and JAX alone carries it out there (`machine`). `edgecifar.benchmarks.ahead` packs whole recipes.
"""
