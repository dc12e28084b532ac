"""Recipes: functions that return a `Method` with the defaults of a paper."""
