"""The node: data sets, policies, training, proving and reviewing for one participant."""
