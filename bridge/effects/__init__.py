"""Effect chains: the table of effects, the chain files, and what renders them."""
