"""OOD scores, one idea a file. Higher = more in-distribution, always."""
