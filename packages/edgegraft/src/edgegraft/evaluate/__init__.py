"""How good a model is, whether the transfer helped, and the report that says so."""
