"""Real regressions, held against the releases that repaired them; and code that was never wrong."""
