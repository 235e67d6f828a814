"""Settings files: their schema, how they are read, and the objects that they describe."""
