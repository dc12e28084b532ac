"""Everything that touches a folder: from a root config to trained models, records and pages."""
