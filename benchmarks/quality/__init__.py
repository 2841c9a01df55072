"""How far maps can be trusted: faithfulness to the model, and sanity checks."""
