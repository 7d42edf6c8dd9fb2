"""Training recipes: one readable loop each, and the data that they train on."""
