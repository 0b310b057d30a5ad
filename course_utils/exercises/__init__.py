"""Floor 5: the checks that notebooks and tests share, one module a notebook."""
