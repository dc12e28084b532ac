"""Importers and exporters of published weights, each from one declarative table."""
