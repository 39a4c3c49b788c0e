"""One self-contained page from run folders and bench results."""
