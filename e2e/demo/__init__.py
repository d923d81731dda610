"""`make demo`: the whole loop, from nothing, on real flights."""
