"""Predicting steps on other numbers of ranks and other networks, from a profile of a few."""
