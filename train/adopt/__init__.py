"""Models from outside the zoo, adopted as runs that every later step takes."""
