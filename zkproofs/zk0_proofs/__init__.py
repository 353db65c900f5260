"""What all parties of zk0 agree on, byte for byte: statement, digests, proof and the rules of a round."""

import sys

# py_ecc, which eth-account loads, lets Python recurse 100,000 deep. The json module then follows nested text
# from another party until the stack overflows and the process dies; at Python's own limit it raises.
import py_ecc  # noqa: F401 - imported here, so that it cannot raise the limit later

sys.setrecursionlimit(1000)
