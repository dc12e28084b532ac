"""How an image gets its class logits: a text head, a linear head."""
