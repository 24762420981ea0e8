"""Empty: what an environment installed before the move to `system/` still loads into pytest."""
