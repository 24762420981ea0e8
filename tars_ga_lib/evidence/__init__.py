"""Evidence packages: packed, signed, verified, replayed and compared."""
