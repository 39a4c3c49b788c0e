"""The one normalisation of pixels, chosen so that quantizing a pixel IS normalising it.

With `x = (pixel - 120) / 64`, pixels 0..255 become -1.875..2.109375. An int8 tensor over exactly
that range has scale 1/64 and zero point -8, hence `q = round(64 x) - 8 = pixel - 128`: an int8
file takes raw pixels minus 128, and no preprocessing operation remains in it.
"""

MEAN = 120.0
SCALE = 64.0
RANGE = ((0 - MEAN) / SCALE, (255 - MEAN) / SCALE)


def normalise(pixels):
    """Map pixels 0..255 (array or tensor of floats) to the inputs of our models."""
    return (pixels - MEAN) / SCALE
