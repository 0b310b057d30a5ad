"""Floor 6: the checks of the exercises, shared by notebooks and tests; one module per notebook."""
