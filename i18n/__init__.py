"""Two first languages: catalogues, direction, shaping, digits, normalisation."""
