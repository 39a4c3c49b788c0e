"""Choose filters of a Keras model, and take them out of it and of all that depends on them."""
