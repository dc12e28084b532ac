"""The toy experiment behind the bound, and its page."""
