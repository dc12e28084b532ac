"""The page of a run or a study, and its tables: reads records, computes no number of its own."""
