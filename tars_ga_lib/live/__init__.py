"""Watching a day while it runs: `monitor` does it; the others keep, judge and tell what it sees."""
