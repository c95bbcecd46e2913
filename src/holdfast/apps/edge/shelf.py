"""What an edge hands on: the bundles that it follows, with deltas from the last few.

Compressing and comparing is done when a generation comes, on the follower's thread: an answer only
picks bytes. Sizes are bounded by `core.limits`, and by how many old bundles are kept.
"""
