"""From trained methods to predictions, numbers and a report."""
