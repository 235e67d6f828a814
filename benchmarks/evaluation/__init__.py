"""How well embeddings of unseen classes retrieve each other."""
