"""Rows of the table that are made of trained weights."""
