"""Predictors whose weights come with their packages: antibody numbering and antibody structure."""
