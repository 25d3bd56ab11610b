"""Max-pooling over the windows of a rulebook, in which the background competes, and its gradient."""
