"""What the repository says of its results: tables, the picture, model cards, models that ship."""
