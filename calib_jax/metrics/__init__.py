"""Whole-split host arrays in, numbers out."""
